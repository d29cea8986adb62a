#include "codegen/constants.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/parallel.h"
#include "codegen/layers.h"
#include "numerics/formats.h"

namespace systole {
namespace {

/// [Nb, G, KH, KW, C, N] to panels [Nb x G][N / p][KH x KW x C][p], the last panel padded with zeros (or the b_zero's code).
/// `copy(i, n, to)` writes elements [i, i + n) of b.
template <class F>
void pack(const Tensor& b, int64_t p, uint8_t* out, F&& copy) {
  const int64_t g = b.shape[0] * b.shape[1], k = b.shape[2] * b.shape[3] * b.shape[4], n = b.shape[5], panels = (n + p - 1) / p;
  const size_t element = static_cast<size_t>(bytes_of(b.type));
  // Rows of b in order: memory is read as it lies, and written in whole lines.
  parallel_for(g * k, std::max<int64_t>(1, (1 << 18) / n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t gi = row / k, ki = row % k;
      for (int64_t j = 0; j < panels; ++j) copy(row * n + j * p, std::min(p, n - j * p), out + static_cast<size_t>(((gi * panels + j) * k + ki) * p) * element);
    }
  });
}

/// Values of `bits` bits from the low end; `out` is zero.
void put_bits(uint8_t* out, int64_t i, int64_t bits, int64_t v) { out[i * bits / 8] = static_cast<uint8_t>(out[i * bits / 8] | v << (i * bits % 8)); }

/// Codes [K, N] to panels [N / p][K / rows] of records: p scales, p zero points, rows x p codes, all of them unsigned. Columns
/// past N are zeros.
void pack_groups(const Graph& graph, const ConstantUse& use, uint8_t* out) {
  const auto input = [&](size_t k) -> const Tensor& { return *graph.value(use.grouped->inputs[k]).constant; };
  const Tensor &codes = input(1), &scales = input(3), &zeros = input(4);
  const isa::WeightRecord r = weight_record(graph, *use.grouped, use.panel);
  const int64_t k = codes.shape[4], n = codes.shape[5], groups = k / r.rows, panels = ceil_div(n, r.columns), bias = integer_kind(codes.type).is_signed ? int64_t{1} << (r.bits - 1) : 0;
  const auto code_at = [&](const Tensor& t, int64_t i) { return (t.bytes[static_cast<size_t>(i)] + bias) & ((1 << r.bits) - 1); };
  parallel_for(panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * groups; at < end * groups; ++at) {
      uint8_t *record = out + at * r.bytes(), *zero = record + r.zeros_offset(), *code = record + r.codes_offset();
      const int64_t g = at % groups, first = at / groups * r.columns;
      for (int64_t c = 0; c < std::min(r.columns, n - first); ++c) {
        const int64_t s = g * n + first + c;
        std::copy_n(scales.bytes.data() + s * r.scale_bytes, r.scale_bytes, record + c * r.scale_bytes);
        put_bits(zero, c, r.bits, code_at(zeros, s));
        for (int64_t i = 0; i < r.rows; ++i) put_bits(code, i * r.columns + c, r.bits, code_at(codes, (g * r.rows + i) * n + first + c));
      }
    }
  });
}

/// Copies one constant to its place in the image, in panels where the array wants them.
void place_constant(const Graph& graph, const ConstantUse& use, uint8_t* image) {
  const Tensor& t = *graph.value(use.value).constant;
  if (use.grouped) return pack_groups(graph, use, image + use.offset);
  const auto place = [&](auto&& copy) {
    if (use.panel > 0) return pack(t, use.panel, image + use.offset, copy);
    const int64_t element = bytes_of(t.type);
    parallel_for(t.count(), 1 << 20, [&](int64_t begin, int64_t end) { copy(begin, end - begin, image + use.offset + begin * element); });
  };
  if (const NarrowedLater* later = t.bytes.later()) {
    const uint8_t* floats = later->floats().data();
    place([&](int64_t i, int64_t n, uint8_t* to) { f32_to_bf16(floats + 4 * i, reinterpret_cast<uint16_t*>(to), n); });
  } else {
    const uint8_t* bytes = t.bytes.data();
    const size_t element = static_cast<size_t>(bytes_of(t.type));
    place([&](int64_t i, int64_t n, uint8_t* to) { std::memcpy(to, bytes + static_cast<size_t>(i) * element, static_cast<size_t>(n) * element); });
  }
}

}  // namespace

Bytes constants_of(const Graph& graph, const Emitter& e) {
  auto image = std::make_shared<ZeroedMemory>(e.constant_bytes, true);
  parallel_for(static_cast<int64_t>(e.constants.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) place_constant(graph, e.constants[static_cast<size_t>(i)], image->data());
  });
  return Bytes(image, image->data(), image->size());
}

}  // namespace systole
