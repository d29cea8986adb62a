#include "isa/geometry.h"

#include <algorithm>

namespace systole::isa {
namespace {

const std::array<int32_t, kVectorDims>& strides_of(const VectorDesc& d, int stream) {
  return stream == 0 ? d.strides0 : stream == 1 ? d.strides1 : stream == 2 ? d.strides2 : d.out_strides;
}

/// Loops [from, to] advance every scratchpad stream as one contiguous (or constant) loop.
bool joins(const VectorDesc& d, const std::array<Space, kVectorInputs + 1>& spaces, int outer, int inner) {
  for (int s = 0; s <= kVectorInputs; ++s) {
    if (d.types[static_cast<size_t>(s)] == StreamType::kNone || spaces[static_cast<size_t>(s)] == Space::kAccumulator) continue;
    const auto& strides = strides_of(d, s);
    const size_t o = static_cast<size_t>(outer), i = static_cast<size_t>(inner);
    if (strides[o] != static_cast<int64_t>(strides[i]) * d.extents[i]) return false;
    if (s == 0 && d.guard_h_limit && (d.guard_h[o] != d.guard_h[i] * static_cast<int>(d.extents[i]) || d.guard_w[o] != d.guard_w[i] * static_cast<int>(d.extents[i]))) return false;
  }
  return true;
}

}  // namespace

int64_t vector_count(const VectorDesc& desc, const std::array<Space, kVectorInputs + 1>& spaces, int64_t lanes) {
  int64_t total = 1;
  for (uint32_t e : desc.extents) total *= e;
  if (total == 0) return 0;
  auto along = [&](int last, int first) {
    int64_t inner = desc.extents[static_cast<size_t>(last)];
    int d = last;
    while (d > first && (desc.extents[static_cast<size_t>(d - 1)] == 1 || joins(desc, spaces, d - 1, d))) inner *= desc.extents[static_cast<size_t>(--d)];
    return total / inner * ((inner + lanes - 1) / lanes);
  };
  const int kept = kVectorDims - desc.reduced;
  int64_t best = kept > 0 ? along(kept - 1, 0) : total;
  if (desc.reduced > 0) best = std::min(best, along(kVectorDims - 1, kept));
  return best;
}

bool reduces_stream(const VectorProgram& program) { return program.reduce != Reduce::kNone && program.pre_count == 1 && program.ops[0].op == Micro::kMove; }

ProgramSlots slots_of(const VectorProgram& program) {
  ProgramSlots s{0, 0};
  if (reduces_stream(program)) return {1, 0};
  const int n = std::max<int>(1, program.reduce == Reduce::kNone ? program.pre_count + program.post_count : program.pre_count);
  for (int i = 0; i < n && i < program.pre_count + program.post_count; ++i) {
    const MicroInfo& m = micro_info(program.ops[static_cast<size_t>(i)].op);
    s.slots += m.slots, s.table_ops += m.table_ops;
  }
  s.slots = std::max<int64_t>(1, s.slots + (program.reduce != Reduce::kNone ? 1 : 0));
  return s;
}

CopyRuns runs_of(const CopyDesc& desc) {
  int64_t run = desc.element_bytes, runs = 1;
  bool contiguous = true;
  for (size_t d = kCopyDims; d-- > 0;) {
    const int64_t extent = desc.extents[d];
    if (extent == 1) continue;
    if (contiguous && desc.dst_strides[d] == run && (desc.src_strides[d] == run)) run *= extent;
    else contiguous = false, runs *= extent;
  }
  return {runs, run};
}

std::pair<int64_t, int64_t> copied_bytes(const CopyOp& op, bool target) {
  const CopyDesc& d = *op.desc;
  const int64_t at = static_cast<int64_t>(target ? op.dst_address : op.src_address);
  int64_t lo = at, hi = at + d.element_bytes;
  for (size_t i = 0; i < kCopyDims; ++i) {
    if (d.extents[i] == 0) return {at, at};
    const int64_t reach = (target ? d.dst_strides : d.src_strides)[i] * (int64_t{d.extents[i]} - 1);
    (reach < 0 ? lo : hi) += reach;
  }
  return {lo, hi};
}

namespace {

/// The loop along which a side is contiguous, if it has more than one element.
size_t unit_loop(const CopyDesc& d, const std::array<int64_t, kCopyDims>& strides) {
  for (size_t i = kCopyDims; i-- > 0;) {
    if (d.extents[i] > 1 && strides[i] == d.element_bytes) return i;
  }
  return kCopyDims;
}

bool may_overlap(const CopyOp& op) {
  const auto [a, b] = copied_bytes(op, false);
  const auto [c, d] = copied_bytes(op, true);
  return op.src == op.dst && a < d && c < b;
}

using Strides = std::array<int64_t, kCopyDims>;

/// In the descriptor's order: a word covers every element of the innermost loop that lies in it.
int64_t words_in_order(const CopyDesc& d, const Strides& strides, int64_t width) {
  int64_t run = d.element_bytes, outer = 1;
  size_t inner = kCopyDims;
  while (inner > 0 && (d.extents[inner - 1] == 1 || strides[inner - 1] == run)) run *= d.extents[--inner];
  int64_t words = (run + width - 1) / width;
  if (inner > 0 && run <= width) {
    // The next loop is strided: its elements share words while they are closer than a word.
    const int64_t n = d.extents[inner - 1], stride = std::abs(strides[inner - 1]);
    words = stride >= width ? n : std::min(n, ((n - 1) * stride + run + width - 1) / width);
    --inner;
  }
  for (size_t i = 0; i < inner; ++i) outer *= d.extents[i];
  return outer * words;
}

/// In squares: a word, or a burst, per row of a square.
int64_t words_in_squares(const CopyDesc& d, size_t own, int64_t side) {
  int64_t others = 1;
  for (size_t i = 0; i < kCopyDims; ++i) others *= i == own ? 1 : d.extents[i];
  return others * ((d.extents[own] + side - 1) / side);
}

}  // namespace

CopyWalk::CopyWalk(const CopyOp& op, bool target, const CopyWidths& widths) : element_bytes_(op.desc->element_bytes), run_bytes_(op.desc->element_bytes) {
  const CopyDesc& d = *op.desc;
  const Strides& strides = target ? d.dst_strides : d.src_strides;
  words_ = words_in_order(d, strides, widths.port_bytes);
  const size_t s = op.src == Space::kFill ? kCopyDims : unit_loop(d, d.src_strides), t = unit_loop(d, d.dst_strides);
  if (s < kCopyDims && t < kCopyDims && s != t && !may_overlap(op)) {
    const int64_t side = std::max<int64_t>(1, widths.port_bytes / element_bytes_);
    auto in_order = [&](Space space, const Strides& of) {
      return space == Space::kDram ? words_in_order(d, of, widths.burst_bytes) * widths.burst_bytes / widths.dram_bytes_per_cycle : words_in_order(d, of, widths.port_bytes);
    };
    auto in_squares = [&](Space space, size_t own) { return words_in_squares(d, own, side) * (space == Space::kDram ? std::max<int64_t>(1, widths.burst_bytes / widths.dram_bytes_per_cycle) : 1); };
    if (std::max(in_squares(op.src, s), in_squares(op.dst, t)) < std::max(in_order(op.src, d.src_strides), in_order(op.dst, d.dst_strides))) {
      side_ = side, words_ = words_in_squares(d, target ? t : s, side);
      outer_ = {d.extents[s], strides[s]}, inner_ = {d.extents[t], strides[t]};
      for (size_t i = 0; i < kCopyDims; ++i) {
        if (i != s && i != t && d.extents[i] > 1) extent_[loops_] = d.extents[i], stride_[loops_++] = strides[i];
      }
      return;
    }
  }
  size_t inner = kCopyDims;
  while (inner > 0 && (d.extents[inner - 1] == 1 || strides[inner - 1] == run_bytes_)) run_bytes_ *= d.extents[--inner];
  for (; loops_ < inner; ++loops_) extent_[loops_] = d.extents[loops_], stride_[loops_] = strides[loops_];
}

}  // namespace systole::isa
