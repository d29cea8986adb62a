#include "codegen/constants.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "base/parallel.h"
#include "codegen/layers.h"
#include "numerics/formats.h"

namespace systole {
namespace {

/// Elements of a constant as the image has them, read once and in order: bytes, or bf16 of a file's floats.
struct Elements {
  const uint8_t* data;
  int64_t stored_bytes;    ///< of an element in memory
  int64_t element_bytes;   ///< of one in the image
  static Elements of(const Tensor& t) {
    if (const NarrowedLater* later = t.bytes.later()) return {later->floats().data(), 4, 2};
    return {t.bytes.data(), bytes_of(t.type), bytes_of(t.type)};
  }
  /// [first, first + count), valid until the thread's next call.
  const uint8_t* read(int64_t first, int64_t count) const { return read_once(data + first * stored_bytes, static_cast<size_t>(count * stored_bytes)); }
  /// `count` of those that `read` gave, from the i-th on.
  void write(const uint8_t* read, int64_t i, int64_t count, uint8_t* to) const {
    if (stored_bytes == element_bytes) std::memcpy(to, read + i * stored_bytes, static_cast<size_t>(count * stored_bytes));
    else f32_to_bf16(read + i * stored_bytes, reinterpret_cast<uint16_t*>(to), count);
  }
};

/// Calls body(first, count, elements of the constant from the first on) for pieces of about this many elements, in whole rows of n.
template <class F>
void for_pieces(const Elements& elements, int64_t rows, int64_t n, F&& body) {
  constexpr int64_t kAtOnce = 1 << 16;  // they stay in a core's cache
  const int64_t step = std::max<int64_t>(1, kAtOnce / std::max<int64_t>(1, n));
  parallel_for(rows, step, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += step) body(row, std::min(step, end - row), elements.read(row * n, std::min(step, end - row) * n));
  });
}

/// [Nb, G, KH, KW, C, N] to panels [Nb x G][N / p][KH x KW x C][p], the last panel padded with zeros (or the b_zero's code). Rows in order: memory
/// is read as it lies, and written in whole lines.
void pack(const Elements& b, const Shape& shape, int64_t p, uint8_t* out) {
  const int64_t g = shape[0] * shape[1], k = shape[2] * shape[3] * shape[4], n = shape[5], panels = (n + p - 1) / p;
  for_pieces(b, g * k, n, [&](int64_t first, int64_t count, const uint8_t* rows) {
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t gi = row / k, ki = row % k;
      for (int64_t j = 0; j < panels; ++j) b.write(rows, (row - first) * n + j * p, std::min(p, n - j * p), out + ((gi * panels + j) * k + ki) * p * b.element_bytes);
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
  const Elements elements = Elements::of(t);
  if (use.panel > 0) return pack(elements, t.shape, use.panel, image + use.offset);
  for_pieces(elements, t.count(), 1, [&](int64_t first, int64_t count, const uint8_t* from) { elements.write(from, 0, count, image + use.offset + first * elements.element_bytes); });
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
