#include "sim/translate/memory_flow.h"

#include <algorithm>
#include <cstdlib>

namespace systole {

MemoryFlow::Segments::iterator MemoryFlow::split(Segments& segments, int64_t at) {
  auto next = segments.lower_bound(at);
  if (next == segments.begin()) return next;
  auto before = std::prev(next);
  if (before->second.hi <= at) return next;
  Segment right = before->second;
  before->second.hi = at;
  return segments.emplace_hint(next, at, std::move(right));
}

void MemoryFlow::mark(uint32_t task) {
  if (task == kNobody) return;
  if (used_.size() <= task) used_.resize(task + 1);
  used_[task] = true;
}

void MemoryFlow::read(isa::Space space, int64_t lo, int64_t hi, uint32_t task, std::vector<uint32_t>& after) {
  if (lo >= hi) return;
  Segments& segments = memories_[static_cast<size_t>(space)];
  auto it = split(segments, lo);
  split(segments, hi);
  int64_t at = lo;
  auto fill = [&](Segments::iterator before, int64_t to) {
    if (at < to) segments.emplace_hint(before, at, Segment{to, kNobody, false, {task}});
  };
  for (; it != segments.end() && it->first < hi; ++it) {
    fill(it, it->first);
    Segment& s = it->second;
    if (s.writer != kNobody) after.push_back(s.writer), mark(s.writer);
    if (s.readers.empty() || s.readers.back() != task) s.readers.push_back(task);
    at = s.hi;
  }
  fill(it, hi);
}

void MemoryFlow::write(isa::Space space, int64_t lo, int64_t hi, uint32_t task, bool dense, std::vector<uint32_t>& after) {
  if (lo >= hi) return;
  Segments& segments = memories_[static_cast<size_t>(space)];
  auto it = split(segments, lo);
  split(segments, hi);
  while (it != segments.end() && it->first < hi) {
    const Segment& s = it->second;
    if (s.writer != kNobody) after.push_back(s.writer);
    if (!dense) mark(s.writer);  // what lies in the holes may still be read
    for (uint32_t r : s.readers) {
      if (r != task) after.push_back(r);
    }
    it = segments.erase(it);
  }
  segments.emplace_hint(it, lo, Segment{hi, task, !dense, {}});
}

std::vector<uint32_t> MemoryFlow::writers(isa::Space space, int64_t lo, int64_t hi) const {
  const Segments& segments = memories_[static_cast<size_t>(space)];
  std::vector<uint32_t> list;
  auto it = segments.upper_bound(lo);
  if (it != segments.begin()) --it;
  int64_t at = lo;
  for (; it != segments.end() && it->first < hi; ++it) {
    if (it->second.hi <= lo) continue;
    if (it->first > at || it->second.holes) list.push_back(kNobody);
    list.push_back(it->second.writer);
    at = it->second.hi;
  }
  if (at < hi) list.push_back(kNobody);
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

namespace {

/// Loops of (stride, extent) that reach every byte of their range.
template <size_t N>
bool dense(std::array<std::pair<int64_t, int64_t>, N> loops, int64_t element) {
  std::sort(loops.begin(), loops.end());
  for (auto [stride, extent] : loops) {
    if (extent == 1) continue;
    if (stride != element) return false;
    element *= extent;
  }
  return true;
}

}  // namespace

bool writes_densely(const isa::CopyDesc& desc) {
  std::array<std::pair<int64_t, int64_t>, isa::kCopyDims> loops;
  for (size_t i = 0; i < loops.size(); ++i) loops[i] = {std::abs(desc.dst_strides[i]), desc.extents[i]};
  return dense(loops, desc.element_bytes);
}

bool writes_densely(const isa::VectorDesc& desc) {
  std::array<std::pair<int64_t, int64_t>, isa::kVectorDims> loops;
  for (size_t i = 0; i < loops.size(); ++i) loops[i] = {std::abs(int64_t{desc.out_strides[i]}), i + desc.reduced < isa::kVectorDims ? desc.extents[i] : 1};
  return dense(loops, isa::bytes_of(desc.types[isa::kVectorInputs]));
}

}  // namespace systole
