// Which instruction wrote the bytes that another touches: walks a program in order and keeps, per memory, the last
// writer and the readers since of every byte range.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "isa/footprint.h"

namespace systole {

class MemoryFlow {
 public:
  static constexpr uint32_t kNobody = ~uint32_t{0};

  /// Task `task` reads [lo, hi): appends to `after` the tasks that wrote it, and marks those as used.
  void read(isa::Space space, int64_t lo, int64_t hi, uint32_t task, std::vector<uint32_t>& after);
  /// Task `task` writes inside [lo, hi), every byte of it when `dense`: appends its former writers and readers.
  void write(isa::Space space, int64_t lo, int64_t hi, uint32_t task, bool dense, std::vector<uint32_t>& after);
  /// Writers of [lo, hi), ascending, without reading it. kNobody is among them where a byte is as the run began, or where
  /// a write with holes hides what lies under it.
  std::vector<uint32_t> writers(isa::Space space, int64_t lo, int64_t hi) const;
  /// Whether anything read what `task` wrote.
  bool used(uint32_t task) const { return task < used_.size() && used_[task]; }

 private:
  struct Segment {
    int64_t hi;
    uint32_t writer;
    bool holes;
    std::vector<uint32_t> readers;
  };
  using Segments = std::map<int64_t, Segment>;
  /// Makes `at` a border between segments; returns the first segment from `at` on.
  static Segments::iterator split(Segments& segments, int64_t at);
  void mark(uint32_t task);

  std::array<Segments, 4> memories_;
  std::vector<bool> used_;
};

/// Whether an instruction writes every byte of the range its footprint gives for its target.
bool writes_densely(const isa::CopyDesc& desc);
bool writes_densely(const isa::VectorDesc& desc);

}  // namespace systole
