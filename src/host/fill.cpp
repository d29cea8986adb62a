// Tensors from nothing or from shapes: Constant, ConstantOfShape, Shape, Size, Range, EyeLike, window functions.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "host/host.h"

namespace systole {
namespace {

void run_shape(HostCall& c) {
  const Shape& s = c.in(0).shape;
  const int64_t r = static_cast<int64_t>(s.size());
  auto bound = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + r : v, 0, r); };
  const int64_t from = bound(c.op().integer("start", 0)), to = bound(c.op().integer("end", r));
  const std::vector<int64_t> part(s.begin() + from, s.begin() + std::max(from, to));
  c.give(0, Tensor::from_ints(part, {static_cast<int64_t>(part.size())}));
}

void run_size(HostCall& c) { c.give(0, Tensor::from_ints({c.in(0).count()}, {})); }

void run_constant(HostCall& c) {
  for (const auto& [name, a] : c.op().attributes) {
    if (const auto* t = std::get_if<TensorPtr>(&a)) return c.give(0, *t);
    if (const auto* i = std::get_if<int64_t>(&a)) return c.give(0, Tensor::from_ints({*i}, {}));
    if (const auto* f = std::get_if<float>(&a)) return c.give(0, Tensor::scalar_f32(*f));
    if (const auto* v = std::get_if<std::vector<int64_t>>(&a)) return c.give(0, Tensor::from_ints(*v, {static_cast<int64_t>(v->size())}));
    if (const auto* v = std::get_if<std::vector<float>>(&a)) return c.give(0, Tensor::from_floats(*v, {static_cast<int64_t>(v->size())}));
    if (const auto* s = std::get_if<std::string>(&a)) {
      c.make(0, DType::kString, {}).strings[0] = *s;
      return;
    }
    if (const auto* v = std::get_if<std::vector<std::string>>(&a)) {
      c.make(0, DType::kString, {static_cast<int64_t>(v->size())}).strings = *v;
      return;
    }
  }
  unsupported(c.node, "a sparse constant");
}

void run_constant_of_shape(HostCall& c) {
  const Shape shape = c.ints(0);
  if (element_count(shape) > (int64_t{1} << 28)) unsupported(c.node, "a constant of more than 2^28 elements");
  TensorPtr value;
  const auto it = c.op().attributes.find("value");
  if (it != c.op().attributes.end() && std::holds_alternative<TensorPtr>(it->second)) value = std::get<TensorPtr>(it->second);
  if (value && value->count() < 1) malformed(c.node, "an empty value", "one element");
  Tensor& t = c.make(0, value ? value->type : DType::kF32, shape);
  for (int64_t i = 0, n = value ? t.count() : 0; i < n; ++i) copy_element(t, i, *value, 0);
}

void run_range(HostCall& c) {
  const Tensor& start = c.in(0);
  const double step = c.number(2, 1), n = std::ceil((c.number(1, 0) - c.number(0, 0)) / step);
  if (step == 0 || !(n < 0x1p28)) malformed(c.node, "a range of " + std::to_string(n) + " elements", "fewer than 2^28 and a step other than 0");
  Tensor& t = c.make(0, start.type, {std::max<int64_t>(0, static_cast<int64_t>(n))});
  for (int64_t i = 0; i < t.count(); ++i) is_float(t.type) ? t.set(i, start.at(0) + static_cast<double>(i) * step) : t.set_int(i, start.int_at(0) + i * c.in(2).int_at(0));
}

void run_eye_like(HostCall& c) {
  const Tensor& x = c.in(0);
  if (x.shape.size() != 2) malformed(c.node, "shape " + to_string(x.shape), "a matrix");
  const int64_t k = c.op().integer("k", 0);
  Tensor& y = c.make(0, type_attribute(c.op(), x.type), x.shape);
  for (int64_t r = 0; r < x.shape[0]; ++r) {
    if (r + k >= 0 && r + k < x.shape[1]) y.set(r * x.shape[1] + r + k, 1);
  }
}

/// Hann, Hamming and Blackman: a0 - a1 cos + a2 cos 2. Opset 17.
void run_window(HostCall& c) {
  const int64_t n = static_cast<int64_t>(c.number(0, 0));
  if (n < 0 || n > (int64_t{1} << 28)) malformed(c.node, "size " + std::to_string(n), "0 to 2^28");
  const bool hann = c.op().type == "HannWindow", hamming = c.op().type == "HammingWindow";
  const double a0 = hann ? 0.5 : hamming ? 25.0 / 46 : 0.42, a1 = hann ? 0.5 : hamming ? 21.0 / 46 : 0.5, a2 = hann || hamming ? 0 : 0.08;
  const double period = static_cast<double>(c.op().integer("periodic", 1) ? n : n - 1);
  Tensor& y = c.make(0, type_attribute(c.op(), DType::kF32), {n});
  for (int64_t i = 0; i < n; ++i) {
    const double t = 2 * std::numbers::pi * static_cast<double>(i) / period;
    y.set(i, n == 1 ? 1 : a0 - a1 * std::cos(t) + a2 * std::cos(2 * t));
  }
}

constexpr HostOperator kOperators[] = {
    {"", "Shape", run_shape}, {"", "Size", run_size}, {"", "Constant", run_constant}, {"", "ConstantOfShape", run_constant_of_shape, 1}, {"", "Range", run_range, 7}, {"", "EyeLike", run_eye_like},
    {"", "HannWindow", run_window, 1}, {"", "HammingWindow", run_window, 1}, {"", "BlackmanWindow", run_window, 1},
};

}  // namespace

std::span<const HostOperator> host_fills() { return kOperators; }

}  // namespace systole
