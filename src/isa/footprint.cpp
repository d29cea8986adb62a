#include "isa/footprint.h"

#include <algorithm>

#include "base/error.h"
#include "isa/geometry.h"

namespace systole::isa {

int64_t weights_reach(const MatrixDesc& d, int64_t n, int64_t columns) {
  const int64_t element = d.format == 0 ? 1 : d.format == 3 ? 4 : 2;
  const int64_t k = int64_t{d.kernel_h} * d.kernel_w * (d.depthwise ? 1 : d.channels), tiles = (n + columns - 1) / columns, last = n - (tiles - 1) * columns;
  const auto end_of = [&](int64_t tile, int64_t its_columns) { return tile * int64_t{d.b_tile_pitch} + (its_columns - 1) * d.b_column_pitch; };
  const int64_t end = tiles > 1 ? std::max(end_of(tiles - 1, last), end_of(tiles - 2, columns)) : end_of(0, last);
  return end + (k - 1) * d.b_row_pitch + element;
}

std::pair<int64_t, int64_t> b_bytes(const MatrixOp& op, int64_t columns) {
  const int64_t b = static_cast<int64_t>(op.b);
  return {b, b + weights_reach(*op.desc, op.n, columns)};
}

std::pair<int64_t, int64_t> a_bytes(const MatrixOp& op) {
  const MatrixDesc& d = *op.desc;
  const int64_t element = d.format == 0 ? 1 : d.format == 3 ? 4 : 2;
  auto reach = [](int64_t origin, int64_t outputs, int64_t stride, int64_t taps, int64_t dilation, int64_t limit, int64_t& lo, int64_t& hi) {
    lo = std::clamp<int64_t>(origin, 0, limit);
    hi = std::clamp<int64_t>(origin + (outputs - 1) * stride + (taps - 1) * dilation + 1, 0, limit);
    return lo < hi;
  };
  int64_t r0, r1, c0, c1;
  const bool rows = reach(op.row_origin, op.out_rows, d.stride_h, d.kernel_h, d.dilation_h, op.in_rows, r0, r1);
  const bool cols = reach(op.column_origin, op.out_columns, d.stride_w, d.kernel_w, d.dilation_w, d.in_columns, c0, c1);
  const int64_t channels = d.depthwise ? (op.n - 1) / std::max<int64_t>(1, d.multiplier) + 1 : d.channels, a = static_cast<int64_t>(op.a);
  if (!rows || !cols) return {a, a};
  return {a + r0 * d.a_row_pitch + c0 * d.a_pixel_pitch, a + (r1 - 1) * int64_t{d.a_row_pitch} + (c1 - 1) * int64_t{d.a_pixel_pitch} + (channels - 1) * int64_t{d.a_channel_pitch} + element};
}

namespace {

std::vector<Touch> touches_of(const DescriptorWrite&, int64_t) { return {}; }

std::vector<Touch> touches_of(const CopyOp& op, int64_t) {
  const auto [to_lo, to_hi] = copied_bytes(op, true);
  std::vector<Touch> list = {{op.dst, to_lo, to_hi, true}};
  if (op.src == Space::kFill) return list;
  const auto [lo, hi] = copied_bytes(op, false);
  list.push_back({op.src, lo, hi, false});
  return list;
}

std::vector<Touch> touches_of(const DequantizeOp& op, int64_t) {
  const int64_t from = static_cast<int64_t>(op.src_address), to = static_cast<int64_t>(op.dst_address);
  return {{Space::kScratchpad, to, to + op.target_bytes(), true}, {Space::kDram, from, from + op.source_bytes(), false}};
}

std::vector<Touch> touches_of(const MatrixOp& op, int64_t columns) {
  std::vector<Touch> list;
  if (op.out_rows == 0 || op.out_columns == 0 || op.n == 0) return list;
  if (const auto [lo, hi] = a_bytes(op); lo < hi) list.push_back({Space::kScratchpad, lo, hi, false});
  const auto [b_lo, b_hi] = b_bytes(op, columns);
  list.push_back({Space::kScratchpad, b_lo, b_hi, false});
  if (op.init == Init::kBias) list.push_back({Space::kScratchpad, static_cast<int64_t>(op.bias), static_cast<int64_t>(op.bias) + 4 * int64_t{op.n}, false});
  const int64_t m = int64_t{op.out_rows} * op.out_columns, tiles = (op.n + columns - 1) / columns;
  list.push_back({Space::kAccumulator, 4 * int64_t{op.acc}, 4 * (op.acc + tiles * columns * m), true});
  return list;
}

std::vector<Touch> touches_of(const VectorOp& op, int64_t) {
  const VectorDesc& d = *op.desc;
  const std::array<int32_t, kVectorDims>* strides[] = {&d.strides0, &d.strides1, &d.strides2, &d.out_strides};
  std::vector<Touch> list;
  for (uint32_t e : d.extents) {
    if (e == 0) return list;
  }
  for (size_t s = 0; s <= kVectorInputs; ++s) {
    if (d.types[s] == StreamType::kNone) continue;
    const bool out = s == kVectorInputs;
    int64_t lo = 0, hi = bytes_of(d.types[s]);
    for (size_t i = 0; i < kVectorDims - (out ? d.reduced : 0u); ++i) {
      const int64_t reach = int64_t{(*strides[s])[i]} * (int64_t{d.extents[i]} - 1);
      (reach < 0 ? lo : hi) += reach;
    }
    if (s == 0 && d.guard_h_limit && d.guard_w_limit) hi += (int64_t{d.guard_h_limit} - 1) * d.guard_h_pitch + (int64_t{d.guard_w_limit} - 1) * d.guard_w_pitch;
    if (s == 0 && d.guard_h_limit && !d.guard_w_limit) continue;  // never inside
    list.push_back({op.spaces[s], static_cast<int64_t>(op.addresses[s]) + lo, static_cast<int64_t>(op.addresses[s]) + hi, out});
  }
  return list;
}

}  // namespace

std::vector<Touch> footprint(const Dispatched& op, int64_t columns) {
  return std::visit([&](const auto& o) { return touches_of(o, columns); }, op.op);
}

namespace {

/// Product of extents, or `limit` + 1 where it is more.
template <size_t N>
int64_t trips(const std::array<uint32_t, N>& extents, int64_t limit) {
  int64_t n = 1;
  for (uint32_t e : extents) {
    if (e == 0) return 0;
    if (n > limit / e) return limit + 1;
    n *= e;
  }
  return n;
}

/// Work that no memory could give rise to: strides of 0 make small footprints of endless loops.
void check_work(const Dispatched& op, const MemorySizes& sizes, const std::string& where) {
  constexpr int64_t kMostVectorElements = int64_t{1} << 33;
  auto bad = [&](const std::string& found, const std::string& expected) { fail(ErrorCode::kBadInput, where + " instruction " + std::to_string(op.index), found, expected); };
  if (const auto* c = std::get_if<CopyOp>(&op.op)) {
    const int64_t limit = (c->dst == Space::kDram ? sizes.dram_bytes : sizes.scratchpad_bytes) / std::max<int64_t>(1, c->desc->element_bytes);
    if (trips(c->desc->extents, limit) > limit) bad("copies more elements than its target has", "at most " + std::to_string(limit));
  }
  if (const auto* m = std::get_if<MatrixOp>(&op.op)) {
    const MatrixDesc& d = *m->desc;
    const std::array<uint32_t, 4> b = {d.kernel_h, d.kernel_w, d.depthwise ? 1 : d.channels, m->n};
    if (trips(b, sizes.scratchpad_bytes) > sizes.scratchpad_bytes) bad("multiplies by more weights than the scratchpad holds", "at most " + std::to_string(sizes.scratchpad_bytes));
  }
  if (const auto* v = std::get_if<VectorOp>(&op.op)) {
    if (trips(v->desc->extents, kMostVectorElements) > kMostVectorElements) bad("a loop nest of more than 2^33 elements", "loops over elements of the memories");
  }
}

}  // namespace

void check_footprint(const Dispatched& op, const std::vector<Touch>& touches, const MemorySizes& sizes, const std::string& where) {
  check_work(op, sizes, where);
  const int64_t group = sizes.scratchpad_bytes / sizes.groups, half = sizes.accumulator_bytes / 2;
  auto bad = [&](const Touch& t, int64_t limit, const char* what) {
    fail(ErrorCode::kBadInput, where + " instruction " + std::to_string(op.index), std::string(t.write ? "writes" : "reads") + " bytes " + std::to_string(t.lo) + " to " + std::to_string(t.hi) + " of " + what,
         "bytes 0 to " + std::to_string(limit));
  };
  for (const Touch& t : touches) {
    if (t.lo >= t.hi) continue;
    switch (t.space) {
      case Space::kDram:
        if (t.lo < 0 || t.hi > sizes.dram_bytes) bad(t, sizes.dram_bytes, "DRAM");
        break;
      case Space::kScratchpad:
      case Space::kAccumulator: {
        const bool acc = t.space == Space::kAccumulator;
        const int64_t limit = acc ? sizes.accumulator_bytes : sizes.scratchpad_bytes, unit = acc ? half : group;
        if (t.lo < 0 || t.hi > limit) bad(t, limit, acc ? "the accumulators" : "the scratchpad");
        for (int64_t g = t.lo / unit; g <= (t.hi - 1) / unit; ++g) {
          if (!(op.locks >> (g + (acc ? 16 : 0)) & 1)) bad(t, limit, acc ? "an accumulator half that it does not lock" : "a lock group that it does not name");
        }
        break;
      }
      case Space::kFill: bad(t, 0, "the fill space"); break;
    }
  }
}

}  // namespace systole::isa
