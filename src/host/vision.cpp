// NonMaxSuppression, RoiAlign, GridSample, AffineGrid, CenterCropPad, ImageDecoder.
#include <stb/stb_image.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

struct Box {
  double y1, x1, y2, x2;
};
Box box_at(const Tensor& boxes, int64_t i, bool centre) {
  const double a = boxes.at(4 * i), b = boxes.at(4 * i + 1), h = boxes.at(4 * i + 2), w = boxes.at(4 * i + 3);
  if (centre) return {b - w / 2, a - h / 2, b + w / 2, a + h / 2};  // x, y, width, height
  return {std::min(a, h), std::min(b, w), std::max(a, h), std::max(b, w)};
}
double overlap(const Box& a, const Box& b) {
  const double h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1), w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (h <= 0 || w <= 0) return 0;
  return h * w / ((a.y2 - a.y1) * (a.x2 - a.x1) + (b.y2 - b.y1) * (b.x2 - b.x1) - h * w);
}

void run_nms(HostCall& c) {
  const Tensor &boxes = c.in(0), &scores = c.in(1);
  if (boxes.shape.size() != 3 || scores.shape.size() != 3 || boxes.shape[2] != 4 || boxes.shape[1] != scores.shape[2] || boxes.shape[0] != scores.shape[0]) malformed(c.node, "boxes " + to_string(boxes.shape) + ", scores " + to_string(scores.shape), "[B,N,4] and [B,C,N]");
  const double most = c.number(2, 0), iou = c.number(3, 0), least = c.has(4) ? c.number(4, 0) : -INFINITY;
  const bool centre = c.op().integer("center_point_box", 0) != 0;
  const int64_t n = boxes.shape[1], classes = scores.shape[1];
  std::vector<int64_t> chosen;
  for (int64_t b = 0; b < boxes.shape[0]; ++b) {
    for (int64_t k = 0; k < classes; ++k) {
      std::vector<int64_t> order;
      const int64_t base = (b * classes + k) * n;
      for (int64_t i = 0; i < n; ++i) {
        if (scores.at(base + i) > least) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](int64_t p, int64_t q) { return scores.at(base + p) > scores.at(base + q); });
      std::vector<Box> kept;
      for (int64_t i : order) {
        if (static_cast<double>(kept.size()) >= most) break;
        const Box box = box_at(boxes, b * n + i, centre);
        if (std::any_of(kept.begin(), kept.end(), [&](const Box& other) { return overlap(box, other) > iou; })) continue;
        kept.push_back(box);
        chosen.insert(chosen.end(), {b, k, i});
      }
    }
  }
  c.give(0, Tensor::from_ints(chosen, {static_cast<int64_t>(chosen.size() / 3), 3}));
}

/// Four neighbours and weights of RoiAlign's bilinear sample.
double roi_sample(const Tensor& x, int64_t base, int64_t h, int64_t w, double y, double px, bool maximum, double best) {
  if (!(y >= -1 && y <= static_cast<double>(h) && px >= -1 && px <= static_cast<double>(w))) return maximum ? best : 0;
  y = std::max(y, 0.0), px = std::max(px, 0.0);
  int64_t y0 = std::min(static_cast<int64_t>(y), h - 1), x0 = std::min(static_cast<int64_t>(px), w - 1);
  const int64_t y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
  const double fy = y0 == h - 1 ? 0 : y - static_cast<double>(y0), fx = x0 == w - 1 ? 0 : px - static_cast<double>(x0);
  const double v[4] = {(1 - fy) * (1 - fx) * x.at(base + y0 * w + x0), (1 - fy) * fx * x.at(base + y0 * w + x1), fy * (1 - fx) * x.at(base + y1 * w + x0), fy * fx * x.at(base + y1 * w + x1)};
  return maximum ? std::max({best, v[0], v[1], v[2], v[3]}) : v[0] + v[1] + v[2] + v[3];
}

void run_roi_align(HostCall& c) {
  const Tensor &x = c.in(0), &rois = c.in(1), &batch = c.in(2);
  const OnnxOp& op = c.op();
  const int64_t oh = op.integer("output_height", 1), ow = op.integer("output_width", 1), ratio = op.integer("sampling_ratio", 0);
  const double scale = static_cast<double>(op.real("spatial_scale", 1)), shift = op.text("coordinate_transformation_mode", op.opset < 16 ? "output_half_pixel" : "half_pixel") == "half_pixel" ? 0.5 : 0;
  const bool maximum = op.text("mode", "avg") == "max";
  if (x.shape.size() != 4 || rois.shape.size() != 2 || rois.shape[1] != 4 || batch.count() != rois.shape[0]) malformed(c.node, "rois " + to_string(rois.shape), "[N,4] and N batch indices");
  const int64_t h = x.shape[2], w = x.shape[3];
  Tensor& y = c.make(0, x.type, {rois.shape[0], x.shape[1], oh, ow});
  Odometer at(y.shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    const int64_t r = at.index[0], b = batch.int_at(r);
    if (b < 0 || b >= x.shape[0]) malformed(c.node, "batch index " + std::to_string(b), "0 to " + std::to_string(x.shape[0] - 1));
    const double x1 = rois.at(4 * r) * scale - shift, y1 = rois.at(4 * r + 1) * scale - shift;
    double width = rois.at(4 * r + 2) * scale - shift - x1, height = rois.at(4 * r + 3) * scale - shift - y1;
    if (shift == 0) width = std::max(width, 1.0), height = std::max(height, 1.0);
    const double bin_h = height / static_cast<double>(oh), bin_w = width / static_cast<double>(ow);
    const int64_t gh = std::clamp<int64_t>(ratio > 0 ? ratio : static_cast<int64_t>(std::ceil(bin_h)), 1, 1024), gw = std::clamp<int64_t>(ratio > 0 ? ratio : static_cast<int64_t>(std::ceil(bin_w)), 1, 1024);
    double sum = maximum ? -INFINITY : 0;
    for (int64_t p = 0; p < gh; ++p) {
      for (int64_t q = 0; q < gw; ++q) {
        const double py = y1 + bin_h * (static_cast<double>(at.index[2]) + (static_cast<double>(p) + 0.5) / static_cast<double>(gh));
        const double px = x1 + bin_w * (static_cast<double>(at.index[3]) + (static_cast<double>(q) + 0.5) / static_cast<double>(gw));
        const double v = roi_sample(x, (b * x.shape[1] + at.index[1]) * h * w, h, w, py, px, maximum, sum);
        sum = maximum ? v : sum + v;
      }
    }
    y.set(i, maximum ? sum : sum / static_cast<double>(gh * gw));
  }
}

/// How GridSample treats coordinates outside [0, n): zeros, border, reflection.
double reflect(double v, double lo, double hi) {
  const double range = hi - lo;
  if (range <= 0) return 0;
  double d = std::fmod(std::fabs(v - lo), 2 * range);
  if (d > range) d = 2 * range - d;
  return lo + d;
}
struct GridRules {
  bool align;
  std::string padding, mode;
  double coordinate(double g, int64_t n) const { return align ? (g + 1) / 2 * static_cast<double>(n - 1) : ((g + 1) * static_cast<double>(n) - 1) / 2; }
  double bounded(double v, int64_t n) const {
    if (padding == "border") return std::clamp(v, 0.0, static_cast<double>(n - 1));
    if (padding == "reflection") return std::clamp(align ? reflect(v, 0, static_cast<double>(n - 1)) : reflect(v, -0.5, static_cast<double>(n) - 0.5), 0.0, static_cast<double>(n - 1));
    return v;
  }
};
void cubic_weights(double t, double a, double* w) {
  auto near = [&](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  auto far = [&](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  w[0] = far(t + 1), w[1] = near(t), w[2] = near(1 - t), w[3] = far(2 - t);
}

/// Value at fractional coordinates, one dimension after another.
double grid_value(const Tensor& x, int64_t base, const Shape& s, const std::vector<double>& p, const GridRules& rules, size_t d, int64_t offset) {
  if (d == s.size()) return x.at(base + offset);
  auto tap = [&](int64_t i) -> double {
    if (rules.padding != "zeros") i = static_cast<int64_t>(rules.bounded(static_cast<double>(i), s[d]));
    return i < 0 || i >= s[d] ? 0.0 : grid_value(x, base, s, p, rules, d + 1, offset * s[d] + i);
  };
  if (rules.mode == "nearest") return tap(static_cast<int64_t>(std::nearbyint(p[d])));
  const double f = std::floor(p[d]), t = p[d] - f;
  const int64_t i = static_cast<int64_t>(f);
  if (rules.mode != "cubic") return (t == 1 ? 0 : (1 - t) * tap(i)) + (t == 0 ? 0 : t * tap(i + 1));
  double w[4], sum = 0;
  cubic_weights(t, -0.75, w);
  for (int k = 0; k < 4; ++k) sum += w[k] * tap(i - 1 + k);
  return sum;
}

void run_grid_sample(HostCall& c) {
  const Tensor &x = c.in(0), &grid = c.in(1);
  const size_t rank = x.shape.size() < 3 ? 0 : x.shape.size() - 2;
  if (rank == 0 || grid.shape.size() != rank + 2 || grid.shape.back() != static_cast<int64_t>(rank) || grid.shape[0] != x.shape[0]) malformed(c.node, "grid " + to_string(grid.shape) + " for " + to_string(x.shape), "[N,...,spatial rank]");
  std::string mode = c.op().text("mode", "linear");
  if (mode == "bicubic") mode = "cubic";
  const GridRules rules{c.op().integer("align_corners", 0) != 0, c.op().text("padding_mode", "zeros"), mode};
  const Shape space(x.shape.begin() + 2, x.shape.end());
  Shape shape = {x.shape[0], x.shape[1]};
  shape.insert(shape.end(), grid.shape.begin() + 1, grid.shape.end() - 1);
  const int64_t size = element_count(space), places = grid.count() / static_cast<int64_t>(rank) / std::max<int64_t>(1, x.shape[0]);
  Tensor& y = c.make(0, x.type, shape);
  std::vector<double> p(rank);
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    for (int64_t i = 0; i < places; ++i) {
      for (size_t d = 0; d < rank; ++d) {
        const double g = rules.coordinate(grid.at((n * places + i) * static_cast<int64_t>(rank) + static_cast<int64_t>(rank - 1 - d)), space[d]);
        p[d] = std::isfinite(g) ? std::clamp(rules.mode == "cubic" ? g : rules.bounded(g, space[d]), -1e9, 1e9) : -2;
      }
      for (int64_t ch = 0; ch < x.shape[1]; ++ch) y.set((n * x.shape[1] + ch) * places + i, grid_value(x, (n * x.shape[1] + ch) * size, space, p, rules, 0, 0));
    }
  }
}

void run_affine_grid(HostCall& c) {
  const Tensor& theta = c.in(0);
  const Shape size = c.ints(1);
  const size_t rank = size.size() < 3 ? 0 : size.size() - 2;
  if ((rank != 2 && rank != 3) || theta.shape != Shape{size[0], static_cast<int64_t>(rank), static_cast<int64_t>(rank) + 1}) malformed(c.node, "theta " + to_string(theta.shape) + " for size " + to_string(size), "[N,2,3] or [N,3,4]");
  const bool align = c.op().integer("align_corners", 0) != 0;
  Shape space(size.begin() + 2, size.end()), shape = {size[0]};
  shape.insert(shape.end(), space.begin(), space.end());
  shape.push_back(static_cast<int64_t>(rank));
  Tensor& y = c.make(0, theta.type, shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    const int64_t row = (at.index[0] * static_cast<int64_t>(rank) + at.index.back()) * static_cast<int64_t>(rank + 1);
    double sum = theta.at(row + static_cast<int64_t>(rank));
    for (size_t d = 0; d < rank; ++d) {
      const int64_t k = at.index[rank - d], extent = space[rank - 1 - d];
      const double v = align ? (extent == 1 ? 0 : 2.0 * static_cast<double>(k) / static_cast<double>(extent - 1) - 1) : (2.0 * static_cast<double>(k) + 1) / static_cast<double>(extent) - 1;
      sum += theta.at(row + static_cast<int64_t>(d)) * v;
    }
    y.set(i, sum);
  }
}

void run_center_crop_pad(HostCall& c) {
  const Tensor& x = c.in(0);
  const auto target = c.ints(1);
  auto axes = c.op().integers("axes");
  if (axes.empty()) {
    for (size_t d = 0; d < x.shape.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  if (axes.size() != target.size()) malformed(c.node, std::to_string(target.size()) + " extents", std::to_string(axes.size()));
  Shape shape = x.shape;
  std::vector<int64_t> shift(x.shape.size(), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(c.node, axes[i], x.shape.size()));
    shape[a] = target[i];
    shift[a] = target[i] > x.shape[a] ? -((target[i] - x.shape[a]) / 2) : (x.shape[a] - target[i]) / 2;
  }
  const auto strides = row_major_strides(x.shape);
  Tensor& y = c.make(0, x.type, shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    int64_t from = 0;
    for (size_t d = 0; d < shape.size() && from >= 0; ++d) {
      const int64_t p = at.index[d] + shift[d];
      from = p < 0 || p >= x.shape[d] ? -1 : from + p * strides[d];
    }
    if (from >= 0) copy_element(y, i, x, from);
  }
}

void run_image_decoder(HostCall& c) {
  const Tensor& x = c.in(0);
  const std::string format = c.op().text("pixel_format", "RGB");
  int width = 0, height = 0, found = 0;
  if (!stbi_info_from_memory(x.bytes.data(), static_cast<int>(x.bytes.size()), &width, &height, &found) || int64_t{width} * height > (int64_t{1} << 26)) unsupported(c.node, "a picture that is no PNG, JPEG, BMP or PNM of at most 2^26 pixels");
  std::unique_ptr<uint8_t, void (*)(void*)> pixels(stbi_load_from_memory(x.bytes.data(), static_cast<int>(x.bytes.size()), &width, &height, &found, 3), stbi_image_free);
  if (!pixels) malformed(c.node, stbi_failure_reason(), "a picture");
  const bool grey = format == "Grayscale", reversed = format == "BGR";
  Tensor& y = c.make(0, DType::kU8, {height, width, grey ? 1 : 3});
  for (int64_t i = 0; i < int64_t{width} * height; ++i) {
    const uint8_t* p = pixels.get() + 3 * i;
    // ITU-R BT.601 in 16 fraction bits
    if (grey) y.bytes[static_cast<size_t>(i)] = static_cast<uint8_t>((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    else for (size_t k = 0; k < 3; ++k) y.bytes[static_cast<size_t>(3 * i) + k] = p[reversed ? 2 - k : k];
  }
}

constexpr HostOperator kOperators[] = {
    {"", "NonMaxSuppression", run_nms, kAllInputs}, {"", "RoiAlign", run_roi_align}, {"", "GridSample", run_grid_sample}, {"", "AffineGrid", run_affine_grid, 2}, {"", "CenterCropPad", run_center_crop_pad, 2},
    {"", "ImageDecoder", run_image_decoder, kAllInputs},
};

}  // namespace

std::span<const HostOperator> host_vision() { return kOperators; }

}  // namespace systole
