// Conversions: Cast, CastLike, BitCast, QuantizeLinear and DequantizeLinear in every type and blocking, DynamicQuantizeLinear.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "host/host.h"
#include "numerics/formats.h"

namespace systole {
namespace {

/// Rounding to a power of two as the attribute round_mode asks: up (default), down, nearest.
double round_e8m0(double v, const std::string& mode) {
  if (!(v > 0) || std::isinf(v) || mode == "nearest") return v;
  const double e = mode == "down" ? std::floor(std::log2(v)) : std::ceil(std::log2(v));
  return std::exp2(std::clamp(e, -127.0, 127.0));
}

std::string number_text(const Tensor& t, int64_t i) {
  if (!is_float(t.type)) return std::to_string(t.int_at(i));
  const double v = t.at(i);
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "INF" : "-INF";
  char buffer[64];
  const auto r = t.type == DType::kF64 ? std::to_chars(buffer, buffer + sizeof buffer, v) : std::to_chars(buffer, buffer + sizeof buffer, static_cast<float>(v));
  return {buffer, r.ptr};
}

double parse_number(const Node& node, const std::string& text) {
  char* end = nullptr;
  const double v = std::strtod(text.c_str(), &end);
  if (text.empty() || *end) malformed(node, "'" + text.substr(0, 40) + "'", "a number");
  return v;
}

void convert(HostCall& c, DType to) {
  const Tensor& x = c.in(0);
  const bool saturate = c.op().integer("saturate", 1) != 0;
  const std::string mode = c.op().text("round_mode", "up");
  const double most = static_cast<double>(greatest_finite(to));
  Tensor& y = c.make(0, to, x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) {
    if (x.type == DType::kString && to == DType::kString) copy_element(y, i, x, i);
    else if (to == DType::kString) y.strings[static_cast<size_t>(i)] = number_text(x, i);
    else if (!is_float(to) && to != DType::kBool && !is_float(x.type) && x.type != DType::kString) y.set_int(i, x.int_at(i));
    else {
      double v = x.type == DType::kString ? parse_number(c.node, x.strings[static_cast<size_t>(i)]) : is_float(x.type) ? x.at(i) : static_cast<double>(x.int_at(i));
      if (to == DType::kF8E8M0) v = round_e8m0(v, mode);
      else if (!std::isinf(most) && (saturate || to == DType::kF4E2M1) && !std::isnan(v)) v = std::clamp(v, -most, most);
      y.set(i, v);
    }
  }
}

void run_cast(HostCall& c) { convert(c, type_attribute(c.op(), DType::kF32)); }
void run_cast_like(HostCall& c) { convert(c, c.in(1).type); }

void run_bit_cast(HostCall& c) {
  const Tensor& x = c.in(0);
  const DType to = type_attribute(c.op(), x.type);
  if (bytes_of(to) != bytes_of(x.type) || bytes_of(to) == 0) malformed(c.node, std::string("a cast of the bits of ") + to_string(x.type) + " to " + to_string(to), "types of one size");
  Tensor& y = c.make(0, to, x.shape);
  y.bytes = x.bytes;
}

/// Scale and zero point of each element: per tensor, per axis, or in blocks along the axis.
struct Scaling {
  const Tensor& scale;
  const Tensor* zero;
  std::vector<int64_t> strides;
  int64_t axis = 0, block = 0;

  int64_t at(const std::vector<int64_t>& index) const {
    int64_t offset = 0;
    for (size_t d = 0; d < strides.size(); ++d) offset += (block && static_cast<int64_t>(d) == axis ? index[d] / block : index[d]) * strides[d];
    return offset;
  }
};

Scaling scaling_of(const HostCall& c, const Tensor& x) {
  Scaling s{c.in(1), c.has(2) ? &c.in(2) : nullptr, std::vector<int64_t>(x.shape.size(), 0)};
  if (s.zero && s.zero->count() != s.scale.count()) malformed(c.node, "zero points of shape " + to_string(s.zero->shape), "the scale's shape " + to_string(s.scale.shape));
  if (s.scale.count() == 1) return s;
  s.axis = normalise_axis(c.node, c.op().integer("axis", 1), x.shape.size());
  s.block = c.op().integer("block_size", 0);
  const size_t a = static_cast<size_t>(s.axis);
  if (s.scale.shape.size() == 1 && s.scale.count() == x.shape[a]) {
    s.strides[a] = 1;
  } else {
    if (s.block < 1 || s.scale.shape.size() != x.shape.size() || s.scale.shape[a] * s.block < x.shape[a]) malformed(c.node, "scales of shape " + to_string(s.scale.shape) + " for " + to_string(x.shape), "one scale, one per channel, or one per block");
    for (size_t d = 0; d < x.shape.size(); ++d) {
      if (d != a && s.scale.shape[d] != x.shape[d]) malformed(c.node, "scales of shape " + to_string(s.scale.shape) + " for " + to_string(x.shape), "equal extents outside the axis");
    }
    s.strides = row_major_strides(s.scale.shape);
  }
  return s;
}

void run_dequantize(HostCall& c) {
  const Tensor& x = c.in(0);
  const Scaling s = scaling_of(c, x);
  Tensor& y = c.make(0, type_attribute(c.op(), s.scale.type), x.shape);
  Odometer at(x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i, at.next()) {
    const int64_t k = s.at(at.index);
    const double zero = s.zero ? s.zero->at(k) : 0;
    y.set(i, static_cast<double>(static_cast<float>(x.at(i) - zero) * static_cast<float>(s.scale.at(k))));
  }
}

void run_quantize(HostCall& c) {
  const Tensor& x = c.in(0);
  const Scaling s = scaling_of(c, x);
  const DType to = s.zero ? s.zero->type : type_attribute(c.op(), DType::kU8);
  Tensor& y = c.make(0, to, x.shape);
  const IntegerKind kind = integer_kind(to);
  const double hi = kind.bits ? std::exp2(kind.bits - (kind.is_signed ? 1 : 0)) - 1 : static_cast<double>(greatest_finite(to)), lo = kind.bits ? (kind.is_signed ? -hi - 1 : 0) : -hi;
  Odometer at(x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i, at.next()) {
    const int64_t k = s.at(at.index);
    const double zero = s.zero ? s.zero->at(k) : 0, v = static_cast<double>(static_cast<float>(x.at(i)) / static_cast<float>(s.scale.at(k)));
    const double q = kind.bits ? std::nearbyint(v) + zero : v + zero;
    if (!kind.bits) y.set(i, std::isnan(q) ? q : std::clamp(q, lo, hi));
    else y.set_int(i, static_cast<int64_t>(std::isnan(q) ? lo : std::clamp(q, lo, hi)));
  }
}

/// u8 over the range of x and 0. Opset 11.
void run_dynamic_quantize(HostCall& c) {
  const Tensor& x = c.in(0);
  float lo = 0, hi = 0;
  for (int64_t i = 0, n = x.count(); i < n; ++i) lo = std::min(lo, static_cast<float>(x.at(i))), hi = std::max(hi, static_cast<float>(x.at(i)));
  const float scale = hi == lo ? 1.0f : (hi - lo) / 255.0f;
  const float zero = std::clamp(std::nearbyintf(-lo / scale), 0.0f, 255.0f);
  Tensor& y = c.make(0, DType::kU8, x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) y.set_int(i, static_cast<int64_t>(std::clamp(std::nearbyintf(static_cast<float>(x.at(i)) / scale) + zero, 0.0f, 255.0f)));
  c.make(1, DType::kF32, {}).set(0, static_cast<double>(scale));
  c.make(2, DType::kU8, {}).set(0, static_cast<double>(zero));
}

constexpr HostOperator kOperators[] = {
    {"", "Cast", run_cast}, {"", "CastLike", run_cast_like}, {"", "BitCast", run_bit_cast},
    {"", "DequantizeLinear", run_dequantize}, {"", "QuantizeLinear", run_quantize}, {"", "DynamicQuantizeLinear", run_dynamic_quantize},
    {"com.microsoft", "DequantizeLinear", run_dequantize}, {"com.microsoft", "QuantizeLinear", run_quantize},
};

}  // namespace

std::span<const HostOperator> host_casts() { return kOperators; }

}  // namespace systole
