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

ProgramSlots slots_of(const VectorProgram& program) {
  ProgramSlots s{0, 0};
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

}  // namespace systole::isa
