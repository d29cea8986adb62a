// MX: packs the operands of one block as the kernels want them, runs the kernel, and scatters the accumulators.
#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "machine/cost.h"
#include "numerics/dot32.h"
#include "sim/functional/executor.h"
#include "sim/functional/gemm.h"

namespace systole {
namespace {

struct Block {
  Memory& memory;
  PackedWeights& kept;
  const isa::MatrixOp& op;
  const isa::MatrixDesc& d;
  int64_t columns, m, n, n_padded, taps;
  MacFormat format;

  Block(Memory& mem, PackedWeights& k, const isa::MatrixOp& o, int64_t c)
      : memory(mem), kept(k), op(o), d(*o.desc), columns(c), m(int64_t{o.out_rows} * o.out_columns), n(o.n), n_padded((n + 15) / 16 * 16), taps(int64_t{d.kernel_h} * d.kernel_w), format(static_cast<MacFormat>(d.format)) {}

  /// Bytes of A under pixel p and a tap, or null in the padding.
  const uint8_t* pixel(int64_t p, int64_t tap) const {
    const int64_t r = p / op.out_columns * d.stride_h + tap / d.kernel_w * d.dilation_h + op.row_origin;
    const int64_t c = p % op.out_columns * d.stride_w + tap % d.kernel_w * d.dilation_w + op.column_origin;
    if (r < 0 || r >= op.in_rows || c < 0 || c >= d.in_columns) return nullptr;
    return memory.scratchpad.data() + op.a + r * d.a_row_pitch + c * d.a_pixel_pitch;
  }
  const uint8_t* weight(int64_t k, int64_t o) const {
    return memory.scratchpad.data() + op.b + o / columns * d.b_tile_pitch + k * d.b_row_pitch + o % columns * d.b_column_pitch;
  }
  /// This block's packed B.
  PackedWeights::Entry& packed(bool& fresh) const {
    const auto [lo, hi] = isa::b_bytes(op, columns);
    return kept.find(op, lo, hi, fresh);
  }
  uint32_t& accumulator(int64_t p, int64_t o) const { return memory.sums()[op.acc + (o / columns * m + p) * columns + o % columns]; }
  uint32_t bias(int64_t o) const {
    uint32_t v;
    std::memcpy(&v, memory.scratchpad.data() + op.bias + 4 * o, 4);
    return v;
  }
  uint32_t initial(int64_t p, int64_t o) const { return op.init == isa::Init::kZero ? 0 : op.init == isa::Init::kBias ? bias(o) : accumulator(p, o); }
};

int16_t integer(const uint8_t* at, bool is_signed, int zero) { return static_cast<int16_t>((is_signed ? static_cast<int8_t>(*at) : *at) - zero); }

float part_of(MacFormat f, const uint8_t* at, int part) {
  if (f == MacFormat::kF32) {
    float v;
    std::memcpy(&v, at, 4);
    return bf16_part(v, part);
  }
  uint16_t v;
  std::memcpy(&v, at, 2);
  return f == MacFormat::kF16 ? f16_part(f16_to_f32(v), part) : bf16_to_f32(v);
}

/// Rows [begin, end) of the dense accumulators, to or from the accumulator memory.
template <class T>
void load_rows(const Block& b, T* acc, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t o = 0; o < b.n_padded; ++o) {
      const uint32_t v = o < b.n ? b.initial(p, o) : 0;
      std::memcpy(acc + (p - begin) * b.n_padded + o, &v, 4);
    }
  }
}
void store_rows(const Block& b, const int32_t* acc, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t o = 0; o < b.n; o += b.columns) {
      std::memcpy(&b.accumulator(p, o), acc + (p - begin) * b.n_padded + o, static_cast<size_t>(std::min(b.columns, b.n - o)) * 4);
    }
  }
}
void store_rows(const Block& b, const float* acc, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t o = 0; o < b.n; ++o) b.accumulator(p, o) = std::bit_cast<uint32_t>(canonical(acc[(p - begin) * b.n_padded + o]));
  }
}

/// Pixels per work item: enough multiply-adds to be worth a thread's while.
int64_t grain(const Block& b, int64_t k) { return std::max<int64_t>(8, (1 << 18) / std::max<int64_t>(1, k * b.n_padded) / 8 * 8); }

void contract_int8(const Block& b) {
  const int64_t k = b.taps * b.d.channels, pairs = (k + 1) / 2;
  bool fresh = false;
  std::vector<int16_t>& weights = b.packed(fresh).integers;
  if (fresh) weights.assign(static_cast<size_t>(pairs * b.n_padded * 2), 0);
  for (int64_t i = 0; fresh && i < k; ++i) {
    int16_t* row = weights.data() + i / 2 * b.n_padded * 2 + i % 2;
    for (int64_t o = 0; o < b.n; o += b.columns) {
      const uint8_t* from = b.weight(i, o);
      for (int64_t j = 0; j < std::min(b.columns, b.n - o); ++j) row[(o + j) * 2] = integer(from + j * b.d.b_column_pitch, b.d.b_signed, b.d.b_zero);
    }
  }
  parallel_for(b.m, grain(b, k), [&](int64_t begin, int64_t end) {
    thread_local std::vector<int16_t> a;
    thread_local std::vector<int32_t> acc;
    a.assign(static_cast<size_t>((end - begin) * pairs * 2), 0), acc.resize(static_cast<size_t>((end - begin) * b.n_padded));
    for (int64_t p = begin; p < end; ++p) {
      int16_t* row = a.data() + (p - begin) * pairs * 2;
      for (int64_t t = 0; t < b.taps; ++t, row += b.d.channels) {
        const uint8_t* from = b.pixel(p, t);
        if (!from) continue;
        const int64_t pitch = b.d.a_channel_pitch;
        const int zero = b.d.a_zero;
        if (pitch == 1 && b.d.a_signed) for (uint32_t c = 0; c < b.d.channels; ++c) row[c] = static_cast<int16_t>(static_cast<int8_t>(from[c]) - zero);
        else if (pitch == 1) for (uint32_t c = 0; c < b.d.channels; ++c) row[c] = static_cast<int16_t>(from[c] - zero);
        else for (uint32_t c = 0; c < b.d.channels; ++c) row[c] = integer(from + c * pitch, b.d.a_signed, zero);
      }
    }
    load_rows(b, acc.data(), begin, end);
    gemm_int16(acc.data(), a.data(), weights.data(), end - begin, pairs, b.n_padded);
    store_rows(b, acc.data(), begin, end);
  });
}

void contract_float(const Block& b) {
  const int64_t even = (b.d.channels + 1) / 2 * 2, k = b.taps * even, blocks = (k + kDotBlock - 1) / kDotBlock, depth = blocks * kDotBlock;
  const int64_t parts = b.format == MacFormat::kF32 ? 3 : b.format == MacFormat::kF16 ? 2 : 1;
  const Pass* passes = b.format == MacFormat::kF32 ? kPassesF32 : b.format == MacFormat::kF16 ? kPassesF16 : kPassesBF16;
  const int64_t element = operand_bytes(b.format);
  bool fresh = false;
  std::vector<float>& weights = b.packed(fresh).floats;
  if (fresh) weights.assign(static_cast<size_t>(parts * depth * b.n_padded), 0.0f);
  parallel_for(fresh ? b.taps * b.d.channels : 0, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / b.d.channels * even + i % b.d.channels;
      for (int64_t o = 0; o < b.n; ++o) {
        const uint8_t* from = b.weight(i, o);
        for (int64_t q = 0; q < parts; ++q) weights[static_cast<size_t>((q * depth + row) * b.n_padded + o)] = part_of(b.format, from, static_cast<int>(q));
      }
    }
  });
  parallel_for(b.m, grain(b, k * passes_of(b.format)), [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> a, acc;
    const int64_t rows = end - begin;
    a.assign(static_cast<size_t>(parts * rows * depth), 0.0f), acc.resize(static_cast<size_t>(rows * b.n_padded));
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t t = 0; t < b.taps; ++t) {
        const uint8_t* from = b.pixel(p, t);
        if (!from) continue;
        for (int64_t q = 0; q < parts; ++q) {
          float* row = a.data() + (q * rows + p - begin) * depth + t * even;
          if (b.format == MacFormat::kBF16 && b.d.a_channel_pitch == element) {
            for (uint32_t c = 0; c < b.d.channels; ++c) {
              uint16_t v;
              std::memcpy(&v, from + 2 * c, 2);
              row[c] = bf16_to_f32(v);
            }
          } else {
            for (uint32_t c = 0; c < b.d.channels; ++c) row[c] = part_of(b.format, from + c * b.d.a_channel_pitch, static_cast<int>(q));
          }
        }
      }
    }
    load_rows(b, acc.data(), begin, end);
    for (int64_t q = 0; q < passes_of(b.format); ++q) {
      gemm_dot32(acc.data(), a.data() + passes[q].a_part * rows * depth, weights.data() + passes[q].b_part * depth * b.n_padded, rows, blocks, b.n_padded);
    }
    store_rows(b, acc.data(), begin, end);
  });
}

void depthwise_int8(const Block& b) {
  std::vector<int32_t> weights(static_cast<size_t>(b.taps * b.n));
  for (int64_t t = 0; t < b.taps; ++t) {
    for (int64_t o = 0; o < b.n; ++o) weights[static_cast<size_t>(t * b.n + o)] = integer(b.weight(t, o), b.d.b_signed, b.d.b_zero);
  }
  const int64_t multiplier = std::max<int64_t>(1, b.d.multiplier);
  parallel_for(b.m, grain(b, b.taps), [&](int64_t begin, int64_t end) {
    std::vector<int32_t> acc(static_cast<size_t>(b.n_padded)), a(static_cast<size_t>(b.n));
    for (int64_t p = begin; p < end; ++p) {
      load_rows(b, acc.data(), p, p + 1);
      for (int64_t t = 0; t < b.taps; ++t) {
        const uint8_t* from = b.pixel(p, t);
        if (!from) continue;
        if (multiplier == 1 && b.d.a_channel_pitch == 1 && !b.d.a_signed) for (int64_t o = 0; o < b.n; ++o) a[static_cast<size_t>(o)] = from[o] - b.d.a_zero;
        else for (int64_t o = 0; o < b.n; ++o) a[static_cast<size_t>(o)] = integer(from + o / multiplier * b.d.a_channel_pitch, b.d.a_signed, b.d.a_zero);
        const int32_t* w = weights.data() + t * b.n;
        for (int64_t o = 0; o < b.n; ++o) acc[static_cast<size_t>(o)] = static_cast<int32_t>(static_cast<uint32_t>(acc[static_cast<size_t>(o)]) + static_cast<uint32_t>(a[static_cast<size_t>(o)] * w[o]));
      }
      store_rows(b, acc.data(), p, p + 1);
    }
  });
}

/// One channel per column and one tap per pair, so only the even chain of dot32 holds products: 16 taps a block.
/// The packed kernel serves: A is [channel as row], each with its own B column, so it runs channel by channel.
void depthwise_float(const Block& b) {
  const int64_t blocks = (b.taps * 2 + kDotBlock - 1) / kDotBlock, depth = blocks * kDotBlock;
  const int64_t parts = b.format == MacFormat::kF32 ? 3 : b.format == MacFormat::kF16 ? 2 : 1;
  const Pass* passes = b.format == MacFormat::kF32 ? kPassesF32 : b.format == MacFormat::kF16 ? kPassesF16 : kPassesBF16;
  const int64_t multiplier = std::max<int64_t>(1, b.d.multiplier);
  // Pixels become the columns of a product with one row: B'[tap][pixel] is the image, A' the channel's taps.
  parallel_for(b.n, 1, [&](int64_t begin, int64_t end) {
    const int64_t width = (b.m + 15) / 16 * 16;
    thread_local std::vector<float> image, taps, acc;
    for (int64_t o = begin; o < end; ++o) {
      image.assign(static_cast<size_t>(parts * depth * width), 0.0f), taps.assign(static_cast<size_t>(parts * depth), 0.0f), acc.assign(static_cast<size_t>(width), 0.0f);
      const int64_t offset = o / multiplier * b.d.a_channel_pitch;
      for (int64_t t = 0; t < b.taps; ++t) {
        for (int64_t q = 0; q < parts; ++q) taps[static_cast<size_t>(q * depth + 2 * t)] = part_of(b.format, b.weight(t, o), static_cast<int>(q));
        for (int64_t p = 0; p < b.m; ++p) {
          const uint8_t* from = b.pixel(p, t);
          for (int64_t q = 0; from && q < parts; ++q) image[static_cast<size_t>((q * depth + 2 * t) * width + p)] = part_of(b.format, from + offset, static_cast<int>(q));
        }
      }
      for (int64_t p = 0; p < b.m; ++p) acc[static_cast<size_t>(p)] = std::bit_cast<float>(b.initial(p, o));
      // Products commute, so the roles of A and B may swap without changing a bit.
      for (int64_t q = 0; q < passes_of(b.format); ++q) {
        gemm_dot32(acc.data(), taps.data() + passes[q].b_part * depth, image.data() + passes[q].a_part * depth * width, 1, blocks, width);
      }
      for (int64_t p = 0; p < b.m; ++p) b.accumulator(p, o) = std::bit_cast<uint32_t>(canonical(acc[static_cast<size_t>(p)]));
    }
  });
}

}  // namespace

void execute_matrix(Memory& memory, PackedWeights& packed, const isa::MatrixOp& op, int64_t columns) {
  if (op.out_rows == 0 || op.out_columns == 0 || op.n == 0) return;
  const Block b(memory, packed, op, columns);
  const bool integers = b.format == MacFormat::kInt8;
  if (b.d.depthwise) integers ? depthwise_int8(b) : depthwise_float(b);
  else integers ? contract_int8(b) : contract_float(b);
}

}  // namespace systole
