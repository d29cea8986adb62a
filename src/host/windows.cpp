// Pools of any rank with their indices, MaxUnpool, LpPool, Col2Im, DeformConv.
#include <algorithm>
#include <cmath>
#include <string>

#include "host/window.h"

namespace systole {
namespace {

std::vector<int64_t> attribute_or(const HostCall& c, const char* name, size_t n, int64_t otherwise) {
  auto v = c.op().integers(name);
  if (v.empty()) v.assign(n, otherwise);
  if (v.size() != n) malformed(c.node, std::string(name) + " of " + std::to_string(v.size()) + " values", std::to_string(n));
  for (int64_t x : v) {
    if (x < -(int64_t{1} << 31) || x > (int64_t{1} << 31)) malformed(c.node, std::string(name) + " " + std::to_string(x), "values below 2^31");
  }
  return v;
}

}  // namespace

HostWindow::HostWindow(const HostCall& c, const Shape& input, const Shape& kernel_shape, bool transposed) : kernel(kernel_shape), in(input.begin() + 2, input.end()) {
  const size_t rank = in.size();
  if (kernel.size() != rank) malformed(c.node, "a kernel of rank " + std::to_string(kernel.size()), std::to_string(rank));
  stride = attribute_or(c, "strides", rank, 1), dilation = attribute_or(c, "dilations", rank, 1);
  const auto pads = attribute_or(c, "pads", 2 * rank, 0);
  begin.assign(pads.begin(), pads.begin() + static_cast<long>(rank)), end.assign(pads.begin() + static_cast<long>(rank), pads.end());
  const std::string mode = c.op().text("auto_pad", "NOTSET");
  const bool same = mode.starts_with("SAME"), ceil = c.op().integer("ceil_mode", 0) != 0;
  const auto extra = attribute_or(c, "output_padding", rank, 0), wanted = c.op().integers("output_shape");
  for (size_t d = 0; d < rank; ++d) {
    if (stride[d] < 1 || dilation[d] < 1 || kernel[d] < 1) malformed(c.node, "a kernel, stride or dilation of 0", "1 or more");
    const int64_t span = (kernel[d] - 1) * dilation[d] + 1;
    if (mode == "VALID") begin[d] = end[d] = 0;
    if (transposed) {
      const int64_t full = stride[d] * (in[d] - 1) + extra[d] + span;
      const int64_t target = !wanted.empty() ? wanted[wanted.size() - rank + d] : same ? in[d] * stride[d] : full - begin[d] - end[d];
      if (!wanted.empty() || same) {
        const int64_t total = std::max<int64_t>(0, full - target);
        begin[d] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      }
      out.push_back(std::max<int64_t>(0, target));
      continue;
    }
    if (same) {
      const int64_t o = (in[d] + stride[d] - 1) / stride[d], total = std::max<int64_t>(0, (o - 1) * stride[d] + span - in[d]);
      begin[d] = mode == "SAME_LOWER" ? total - total / 2 : total / 2, end[d] = total - begin[d];
    }
    const int64_t room = in[d] + begin[d] + end[d] - span;
    int64_t o = room < 0 ? 0 : (ceil ? (room + stride[d] - 1) / stride[d] : room / stride[d]) + 1;
    if (ceil && o > 1 && (o - 1) * stride[d] >= in[d] + begin[d]) --o;  // a window that starts in the end padding
    out.push_back(o);
  }
}

std::vector<std::pair<int64_t, int64_t>> HostWindow::taps(const std::vector<int64_t>& out_index) const {
  std::vector<std::pair<int64_t, int64_t>> list;
  const auto strides = row_major_strides(in);
  Odometer at(kernel);
  for (int64_t t = 0, n = element_count(kernel); t < n; ++t, at.next()) {
    int64_t from = 0;
    for (size_t d = 0; d < kernel.size() && from >= 0; ++d) {
      const int64_t p = out_index[d] * stride[d] + at.index[d] * dilation[d] - begin[d];
      from = p < 0 || p >= in[d] ? -1 : from + p * strides[d];
    }
    if (from >= 0) list.emplace_back(t, from);
  }
  return list;
}

namespace {

Shape pooled_shape(const Tensor& x, const HostWindow& w) {
  Shape s = {x.shape[0], x.shape[1]};
  s.insert(s.end(), w.out.begin(), w.out.end());
  return s;
}

HostWindow pool_window(const HostCall& c, const Tensor& x) {
  if (x.shape.size() < 3) malformed(c.node, "shape " + to_string(x.shape), "[N,C,...]");
  return HostWindow(c, x.shape, c.op().integers("kernel_shape"), false);
}

void run_max_pool(HostCall& c) {
  const Tensor& x = c.in(0);
  const HostWindow w = pool_window(c, x);
  const Shape shape = pooled_shape(x, w);
  Tensor y = blank(x.type, shape), indices(DType::kI64, shape);
  const int64_t planes = x.shape[0] * x.shape[1], in_size = element_count(w.in), out_size = element_count(w.out);
  const bool columns_first = c.op().integer("storage_order", 0) != 0;
  Odometer at(w.out);
  for (int64_t o = 0; o < out_size; ++o, at.next()) {
    const auto taps = w.taps(at.index);
    for (int64_t p = 0; p < planes && !taps.empty(); ++p) {
      int64_t best = taps[0].second;
      for (const auto& [t, from] : taps) best = x.at(p * in_size + from) > x.at(p * in_size + best) || std::isnan(x.at(p * in_size + from)) ? from : best;
      copy_element(y, p * out_size + o, x, p * in_size + best);
      if (columns_first && w.in.size() == 2) best = best % w.in[1] * w.in[0] + best / w.in[1];
      indices.set_int(p * out_size + o, p * in_size + best);
    }
  }
  c.give(0, std::move(y));
  c.give(1, std::move(indices));
}

/// Elements of the window that the divisor of an average counts: inside the padded input when padding counts.
int64_t counted(const HostWindow& w, const std::vector<int64_t>& at) {
  int64_t n = 1;
  for (size_t d = 0; d < w.kernel.size(); ++d) {
    int64_t inside = 0;
    for (int64_t k = 0; k < w.kernel[d]; ++k) {
      const int64_t p = at[d] * w.stride[d] + k * w.dilation[d];
      inside += p < w.in[d] + w.begin[d] + w.end[d];
    }
    n *= inside;
  }
  return n;
}

void run_average_pool(HostCall& c) {
  const Tensor& x = c.in(0);
  const bool lp = c.op().type == "LpPool", padding = c.op().integer("count_include_pad", 0) != 0;
  const double p_norm = static_cast<double>(c.op().integer("p", 2));
  const HostWindow w = pool_window(c, x);
  Tensor& y = c.make(0, x.type, pooled_shape(x, w));
  const int64_t planes = x.shape[0] * x.shape[1], in_size = element_count(w.in), out_size = element_count(w.out);
  Odometer at(w.out);
  for (int64_t o = 0; o < out_size; ++o, at.next()) {
    const auto taps = w.taps(at.index);
    const double n = static_cast<double>(padding ? counted(w, at.index) : static_cast<int64_t>(taps.size()));
    for (int64_t p = 0; p < planes; ++p) {
      double sum = 0;
      for (const auto& [t, from] : taps) {
        const double v = x.at(p * in_size + from);
        sum += lp ? std::pow(std::fabs(v), p_norm) : v;
      }
      y.set(p * out_size + o, lp ? std::pow(sum, 1 / p_norm) : sum / n);
    }
  }
}

/// Values to the places that MaxPool's indices name.
void run_max_unpool(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  if (x.shape.size() < 3 || indices.shape != x.shape) malformed(c.node, "indices of shape " + to_string(indices.shape), to_string(x.shape));
  const size_t rank = x.shape.size() - 2;
  const auto kernel = attribute_or(c, "kernel_shape", rank, 1), stride = attribute_or(c, "strides", rank, 1), pads = attribute_or(c, "pads", 2 * rank, 0);
  Shape natural = {x.shape[0], x.shape[1]};
  for (size_t d = 0; d < rank; ++d) natural.push_back((x.shape[d + 2] - 1) * stride[d] - pads[d] - pads[rank + d] + kernel[d]);
  const Shape shape = c.has(2) ? c.ints(2) : natural;
  if (shape.size() != natural.size()) malformed(c.node, "output shape " + to_string(shape), "rank " + std::to_string(natural.size()));
  const int64_t plane = element_count(Shape(natural.begin() + 2, natural.end()));
  Tensor& y = c.make(0, x.type, shape);
  const auto natural_strides = row_major_strides(natural), strides = row_major_strides(shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) {
    int64_t from = indices.int_at(i), to = 0;
    if (from < 0 || from >= plane * natural[0] * natural[1]) malformed(c.node, "index " + std::to_string(from), "an index of " + to_string(natural));
    for (size_t d = 0; d < shape.size(); ++d) {
      const int64_t k = from / natural_strides[d];
      from %= natural_strides[d];
      if (k >= shape[d]) malformed(c.node, "index " + std::to_string(indices.int_at(i)), "an index inside " + to_string(shape));
      to += k * strides[d];
    }
    copy_element(y, to, x, i);
  }
}

/// Sums columns [N, C x taps, L] into images. Opset 18.
void run_col2im(HostCall& c) {
  const Tensor& x = c.in(0);
  const Shape image = c.ints(1), block = c.ints(2);
  const size_t rank = image.size();
  if (x.shape.size() != 3 || block.size() != rank || rank == 0) malformed(c.node, "input " + to_string(x.shape), "[N, C x block, L], and image and block of equal rank");
  const auto stride = attribute_or(c, "strides", rank, 1), dilation = attribute_or(c, "dilations", rank, 1), pads = attribute_or(c, "pads", 2 * rank, 0);
  Shape positions;
  for (size_t d = 0; d < rank; ++d) {
    if (block[d] < 1 || stride[d] < 1) malformed(c.node, "a block or stride of 0", "1 or more");
    positions.push_back((image[d] + pads[d] + pads[rank + d] - dilation[d] * (block[d] - 1) - 1) / stride[d] + 1);
  }
  const int64_t taps = element_count(block), places = element_count(positions), channels = x.shape[1] / taps, size = element_count(image);
  if (x.shape[1] % taps || x.shape[2] != places) malformed(c.node, "input " + to_string(x.shape), "C x " + std::to_string(taps) + " rows and " + std::to_string(places) + " columns");
  Shape shape = {x.shape[0], channels};
  shape.insert(shape.end(), image.begin(), image.end());
  Tensor& y = c.make(0, x.type, shape);
  const auto strides = row_major_strides(image);
  Odometer tap(block);
  for (int64_t t = 0; t < taps; ++t, tap.next()) {
    Odometer at(positions);
    for (int64_t l = 0; l < places; ++l, at.next()) {
      int64_t to = 0;
      for (size_t d = 0; d < rank && to >= 0; ++d) {
        const int64_t p = at.index[d] * stride[d] + tap.index[d] * dilation[d] - pads[d];
        to = p < 0 || p >= image[d] ? -1 : to + p * strides[d];
      }
      for (int64_t nc = 0; nc < x.shape[0] * channels && to >= 0; ++nc) y.set(nc * size + to, y.at(nc * size + to) + x.at((nc * taps + t) * places + l));
    }
  }
}

/// Bilinear value of a plane; outside reads 0.
double sample(const Tensor& x, int64_t base, int64_t h, int64_t w, double py, double px) {
  if (!(py > -1 && py < static_cast<double>(h) && px > -1 && px < static_cast<double>(w))) return 0;
  const int64_t y0 = static_cast<int64_t>(std::floor(py)), x0 = static_cast<int64_t>(std::floor(px));
  const double fy = py - static_cast<double>(y0), fx = px - static_cast<double>(x0);
  auto at = [&](int64_t r, int64_t k) { return r < 0 || r >= h || k < 0 || k >= w ? 0.0 : x.at(base + r * w + k); };
  return (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x0 + 1)) + fy * ((1 - fx) * at(y0 + 1, x0) + fx * at(y0 + 1, x0 + 1));
}

/// Two-dimensional convolution whose taps are moved by offsets and scaled by a mask. Opset 19.
void run_deform_conv(HostCall& c) {
  const Tensor &x = c.in(0), &w = c.in(1), &offset = c.in(2);
  const int64_t groups = c.op().integer("group", 1), deform = c.op().integer("offset_group", 1);
  if (x.shape.size() != 4 || w.shape.size() != 4) unsupported(c.node, "ranks other than 4");
  const HostWindow win(c, x.shape, {w.shape[2], w.shape[3]}, false);
  const int64_t taps = w.shape[2] * w.shape[3], out_size = win.out[0] * win.out[1], h = x.shape[2], wd = x.shape[3];
  if (groups < 1 || deform < 1 || w.shape[1] * groups != x.shape[1] || w.shape[0] % groups || x.shape[1] % deform || offset.count() != x.shape[0] * deform * 2 * taps * out_size || (c.has(4) && c.in(4).count() != offset.count() / 2)) {
    malformed(c.node, "shapes " + to_string(x.shape) + ", " + to_string(w.shape) + ", " + to_string(offset.shape), "matching groups, offsets and mask");
  }
  Tensor& y = c.make(0, x.type, {x.shape[0], w.shape[0], win.out[0], win.out[1]});
  Odometer at(y.shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    const int64_t m = at.index[1], place = at.index[2] * win.out[1] + at.index[3];
    double sum = c.has(3) ? c.in(3).at(m) : 0;
    for (int64_t ch = 0; ch < w.shape[1]; ++ch) {
      const int64_t channel = m / (w.shape[0] / groups) * w.shape[1] + ch, g = channel / (x.shape[1] / deform);
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t at_offset = ((at.index[0] * deform + g) * 2 * taps + 2 * t) * out_size + place;
        const double py = static_cast<double>(at.index[2] * win.stride[0] - win.begin[0] + t / w.shape[3] * win.dilation[0]) + offset.at(at_offset);
        const double px = static_cast<double>(at.index[3] * win.stride[1] - win.begin[1] + t % w.shape[3] * win.dilation[1]) + offset.at(at_offset + out_size);
        const double mask = c.has(4) ? c.in(4).at(((at.index[0] * deform + g) * taps + t) * out_size + place) : 1;
        sum += mask * w.at((m * w.shape[1] + ch) * taps + t) * sample(x, (at.index[0] * x.shape[1] + channel) * h * wd, h, wd, py, px);
      }
    }
    y.set(i, sum);
  }
}

constexpr HostOperator kOperators[] = {
    {"", "MaxPool", run_max_pool}, {"", "AveragePool", run_average_pool}, {"", "LpPool", run_average_pool}, {"", "MaxUnpool", run_max_unpool, 4}, {"", "Col2Im", run_col2im, 6}, {"", "DeformConv", run_deform_conv},
};

}  // namespace

std::span<const HostOperator> host_windows() { return kOperators; }

}  // namespace systole
