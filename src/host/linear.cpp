// Contractions of types and ranks that the matrix engine does not take: integer and double MatMul and Gemm, ConvInteger,
// convolutions of any rank, Einsum, Det.
#include <algorithm>
#include <cmath>
#include <string>

#include "host/einsum.h"
#include "host/window.h"

namespace systole {
namespace {

/// out[b, m, n] = sum over k of (a - a_zero)(b - b_zero), exact for integers. Shapes as numpy.matmul.
template <class Read, class Store>
void multiply(const Node& node, const Shape& sa_in, const Shape& sb_in, Shape* logical, Read&& read, Store&& store) {
  if (sa_in.empty() || sb_in.empty()) malformed(node, "a scalar operand", "operands of rank 1 or more");
  Shape sa = sa_in, sb = sb_in;
  const bool vector_a = sa.size() == 1, vector_b = sb.size() == 1;
  if (vector_a) sa.insert(sa.begin(), 1);
  if (vector_b) sb.push_back(1);
  const int64_t m = sa[sa.size() - 2], k = sa.back(), n = sb.back();
  if (k != sb[sb.size() - 2]) malformed(node, "shapes " + to_string(sa_in) + " and " + to_string(sb_in), "equal inner extents");
  const Shape batch_a(sa.begin(), sa.end() - 2), batch_b(sb.begin(), sb.end() - 2), batch = broadcast_shapes(node, batch_a, batch_b);
  *logical = batch;
  if (!vector_a) logical->push_back(m);
  if (!vector_b) logical->push_back(n);
  const auto step_a = broadcast_strides(batch_a, batch), step_b = broadcast_strides(batch_b, batch);
  store(-1, 0, 0, 0, 0);
  Odometer at(batch);
  for (int64_t b = 0, batches = element_count(batch); b < batches; ++b, at.next()) {
    const int64_t base_a = offset_of(at.index, step_a) * m * k, base_b = offset_of(at.index, step_b) * k * n;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        read(true, 0, 0, 0);
        for (int64_t e = 0; e < k; ++e) read(false, base_a + i * k + e, base_b + e * n + j, i * n + j);
        store((b * m + i) * n + j, b, i, j, n);
      }
    }
  }
}

void run_matmul(HostCall& c) {
  const Tensor &a = c.in(0), &b = c.in(1);
  const bool real = is_float(a.type);
  if (a.type == DType::kString || is_float(b.type) != real) malformed(c.node, "operands of different kinds", "numbers of one type");
  double sum = 0;
  int64_t isum = 0;
  Shape shape;
  Tensor* y = nullptr;
  multiply(c.node, a.shape, b.shape, &shape,
           [&](bool first, int64_t i, int64_t j, int64_t) {
             if (first) sum = 0, isum = 0;
             else if (real) sum += a.at(i) * b.at(j);
             else isum = static_cast<int64_t>(static_cast<uint64_t>(isum) + static_cast<uint64_t>(a.int_at(i)) * static_cast<uint64_t>(b.int_at(j)));
           },
           [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
             if (at < 0) y = &c.make(0, a.type, shape);
             else real ? y->set(at, sum) : y->set_int(at, isum);
           });
}

/// Zero point of row i (A) or column j (B): one value or one per row or column.
int64_t zero_of(const HostCall& c, size_t k, int64_t i) { return !c.has(k) ? 0 : c.in(k).count() == 1 ? c.in(k).int_at(0) : c.in(k).int_at(i % c.in(k).count()); }

void run_matmul_integer(HostCall& c) {
  const Tensor &a = c.in(0), &b = c.in(1);
  for (size_t k : {size_t{2}, size_t{3}}) {
    if (c.has(k) && c.in(k).count() < 1) malformed(c.node, "no zero point", "one or more");
  }
  const int64_t columns = b.shape.empty() ? 1 : b.shape.back();
  int64_t sum = 0;
  Shape shape;
  Tensor* y = nullptr;
  multiply(c.node, a.shape, b.shape, &shape,
           [&](bool first, int64_t i, int64_t j, int64_t to) {
             if (first) sum = 0;
             else sum += (a.int_at(i) - zero_of(c, 2, to / std::max<int64_t>(columns, 1))) * (b.int_at(j) - zero_of(c, 3, to % std::max<int64_t>(columns, 1)));
           },
           [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
             if (at < 0) y = &c.make(0, DType::kI32, shape);
             else y->set_int(at, sum);
           });
}

void run_gemm(HostCall& c) {
  const Tensor &a = c.in(0), &b = c.in(1);
  const bool ta = c.op().integer("transA", 0), tb = c.op().integer("transB", 0), real = is_float(a.type);
  if (a.shape.size() != 2 || b.shape.size() != 2 || a.shape[ta ? 0 : 1] != b.shape[tb ? 1 : 0]) malformed(c.node, "shapes " + to_string(a.shape) + " and " + to_string(b.shape), "two matrices with equal inner extents");
  const int64_t m = a.shape[ta ? 1 : 0], k = a.shape[ta ? 0 : 1], n = b.shape[tb ? 0 : 1];
  const double alpha = static_cast<double>(c.op().real("alpha", 1)), beta = static_cast<double>(c.op().real("beta", 1));
  if (c.has(2) && broadcast_shapes(c.node, c.in(2).shape, {m, n}) != Shape{m, n}) malformed(c.node, "C of shape " + to_string(c.in(2).shape), to_string({m, n}));
  const auto strides = c.has(2) ? broadcast_strides(c.in(2).shape, {m, n}) : std::vector<int64_t>{0, 0};
  Tensor& y = c.make(0, a.type, {m, n});
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t e = 0; e < k; ++e) sum += a.at(ta ? e * m + i : i * k + e) * b.at(tb ? j * k + e : e * n + j);
      const double bias = c.has(2) ? c.in(2).at(i * strides[0] + j * strides[1]) : 0;
      real ? y.set(i * n + j, alpha * sum + beta * bias) : y.set_int(i * n + j, static_cast<int64_t>(alpha * sum + beta * bias));
    }
  }
}

/// Conv (any rank) and ConvInteger: direct, in double or int64.
void run_conv(HostCall& c) {
  const bool integers = c.op().type == "ConvInteger";
  const Tensor &x = c.in(0), &w = c.in(1);
  const int64_t groups = c.op().integer("group", 1);
  if (x.shape.size() < 3 || w.shape.size() != x.shape.size() || groups < 1 || w.shape[1] * groups != x.shape[1] || w.shape[0] % groups) malformed(c.node, "shapes " + to_string(x.shape) + " and " + to_string(w.shape), "[N,C,...] and [M,C/group,...]");
  const HostWindow win(c, x.shape, Shape(w.shape.begin() + 2, w.shape.end()), false);
  Shape shape = {x.shape[0], w.shape[0]};
  shape.insert(shape.end(), win.out.begin(), win.out.end());
  Tensor& y = c.make(0, integers ? DType::kI32 : x.type, shape);
  const int64_t in_size = element_count(win.in), out_size = element_count(win.out), taps = element_count(win.kernel), cg = w.shape[1], mg = w.shape[0] / groups;
  const int64_t x_zero = integers ? zero_of(c, 2, 0) : 0;
  Odometer at(win.out);
  for (int64_t o = 0; o < out_size; ++o, at.next()) {
    const auto offsets = win.taps(at.index);
    for (int64_t n = 0; n < x.shape[0]; ++n) {
      for (int64_t m = 0; m < w.shape[0]; ++m) {
        double sum = !integers && c.has(2) ? c.in(2).at(m) : 0;
        int64_t isum = 0;
        for (int64_t ch = 0; ch < cg; ++ch) {
          const int64_t xb = (n * x.shape[1] + m / mg * cg + ch) * in_size, wb = (m * cg + ch) * taps;
          for (const auto& [tap, from] : offsets) {
            if (integers) isum += (x.int_at(xb + from) - x_zero) * (w.int_at(wb + tap) - zero_of(c, 3, m));
            else sum += x.at(xb + from) * w.at(wb + tap);
          }
        }
        const int64_t to = (n * w.shape[0] + m) * out_size + o;
        integers ? y.set_int(to, isum) : y.set(to, sum);
      }
    }
  }
}

void run_conv_transpose(HostCall& c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  const int64_t groups = c.op().integer("group", 1);
  if (x.shape.size() < 3 || w.shape.size() != x.shape.size() || groups < 1 || w.shape[0] != x.shape[1] || x.shape[1] % groups) malformed(c.node, "shapes " + to_string(x.shape) + " and " + to_string(w.shape), "[N,C,...] and [C,M/group,...]");
  const size_t rank = x.shape.size() - 2;
  HostWindow win(c, x.shape, Shape(w.shape.begin() + 2, w.shape.end()), true);
  Shape shape = {x.shape[0], w.shape[1] * groups};
  shape.insert(shape.end(), win.out.begin(), win.out.end());
  const int64_t in_size = element_count(win.in), out_size = element_count(win.out), taps = element_count(win.kernel), mg = w.shape[1], cg = x.shape[1] / groups;
  std::vector<double> sums(static_cast<size_t>(element_count(shape)), 0);
  const auto out_strides = row_major_strides(win.out);
  Odometer at(win.in);
  for (int64_t i = 0; i < in_size; ++i, at.next()) {
    Odometer tap(win.kernel);
    for (int64_t t = 0; t < taps; ++t, tap.next()) {
      int64_t to = 0;
      for (size_t d = 0; d < rank && to >= 0; ++d) {
        const int64_t p = at.index[d] * win.stride[d] + tap.index[d] * win.dilation[d] - win.begin[d];
        to = p < 0 || p >= win.out[d] ? -1 : to + p * out_strides[d];
      }
      if (to < 0) continue;
      for (int64_t n = 0; n < x.shape[0]; ++n) {
        for (int64_t ch = 0; ch < x.shape[1]; ++ch) {
          const double v = x.at((n * x.shape[1] + ch) * in_size + i);
          for (int64_t m = 0; m < mg; ++m) sums[static_cast<size_t>((n * shape[1] + ch / cg * mg + m) * out_size + to)] += v * w.at((ch * mg + m) * taps + t);
        }
      }
    }
  }
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t i = 0; i < y.count(); ++i) y.set(i, sums[static_cast<size_t>(i)] + (c.has(2) ? c.in(2).at(i / out_size % shape[1]) : 0));
}

void run_einsum(HostCall& c) {
  std::vector<Shape> shapes;
  for (size_t k = 0; k < c.inputs.size(); ++k) shapes.push_back(c.in(k).shape);
  const EinsumEquation e(c.node, shapes);
  const std::string order = e.result + e.summed();
  Shape shape, loops;
  for (char l : e.result) shape.push_back(e.extents.at(l));
  for (char l : order) loops.push_back(e.extents.at(l));
  std::vector<std::vector<int64_t>> strides;
  for (size_t k = 0; k < shapes.size(); ++k) {
    std::vector<int64_t> s(order.size(), 0);
    const auto own = row_major_strides(shapes[k]);
    for (size_t d = 0; d < shapes[k].size(); ++d) s[order.find(e.terms[k][d])] += shapes[k][d] == 1 ? 0 : own[d];
    strides.push_back(s);
  }
  const int64_t total = element_count(loops), inner = total / std::max<int64_t>(1, element_count(shape));
  Tensor& y = c.make(0, c.in(0).type, shape);
  Odometer at(loops);
  double sum = 0;
  for (int64_t i = 0; i < total; ++i, at.next()) {
    double product = 1;
    for (size_t k = 0; k < shapes.size(); ++k) product *= c.in(k).at(offset_of(at.index, strides[k]));
    sum = i % inner == 0 ? product : sum + product;
    if (i % inner == inner - 1) is_float(y.type) ? y.set(i / inner, sum) : y.set_int(i / inner, static_cast<int64_t>(sum));
  }
}

/// Determinants of a batch of matrices, by Gaussian elimination with partial pivots.
void run_det(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t rank = x.shape.size();
  if (rank < 2 || x.shape[rank - 1] != x.shape[rank - 2]) malformed(c.node, "shape " + to_string(x.shape), "square matrices");
  const size_t n = static_cast<size_t>(x.shape.back());
  Tensor& y = c.make(0, x.type, Shape(x.shape.begin(), x.shape.end() - 2));
  for (int64_t b = 0; b < y.count(); ++b) {
    std::vector<double> m(n * n);
    for (size_t i = 0; i < n * n; ++i) m[i] = x.at(b * static_cast<int64_t>(n * n) + static_cast<int64_t>(i));
    double det = 1;
    for (size_t k = 0; k < n; ++k) {
      size_t pivot = k;
      for (size_t r = k; r < n; ++r) pivot = std::fabs(m[r * n + k]) > std::fabs(m[pivot * n + k]) ? r : pivot;
      if (m[pivot * n + k] == 0) det = 0;
      if (pivot != k) det = -det;
      for (size_t j = 0; j < n; ++j) std::swap(m[pivot * n + j], m[k * n + j]);
      det *= m[k * n + k];
      for (size_t r = k + 1; r < n && m[k * n + k] != 0; ++r) {
        const double f = m[r * n + k] / m[k * n + k];
        for (size_t j = k; j < n; ++j) m[r * n + j] -= f * m[k * n + j];
      }
    }
    y.set(b, det);
  }
}

constexpr HostOperator kOperators[] = {
    {"", "MatMul", run_matmul}, {"", "MatMulInteger", run_matmul_integer}, {"", "Gemm", run_gemm}, {"", "Conv", run_conv}, {"", "ConvInteger", run_conv},
    {"", "ConvTranspose", run_conv_transpose}, {"", "Einsum", run_einsum}, {"", "Det", run_det},
};

}  // namespace

std::span<const HostOperator> host_linear() { return kOperators; }

}  // namespace systole
