// Collects instructions with the bytes they touch. Emission is sequential and plain: program order is correct order;
// overlap comes from the distances that `synchronise` derives later from the recorded ranges.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <span>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "isa/program.h"
#include "machine/machine.h"
#include "schedule/place.h"
#include "schedule/tile_contract.h"

namespace systole {

/// Bytes [lo, hi) of one memory; accumulators count 4 bytes an element.
struct ByteRange {
  uint64_t lo : 56 = 0, hi : 56 = 0;  ///< 56 bits, so that the other two fit beside them
  isa::Space space = isa::Space::kScratchpad;
  bool write = false;
  ByteRange() = default;
  ByteRange(isa::Space s, uint64_t l, uint64_t h, bool w) : lo(l & kBits), hi(h & kBits), space(s), write(w) {}

 private:
  static constexpr uint64_t kBits = (uint64_t{1} << 56) - 1;
};

/// What one instruction touches, without memory of its own: programs have tens of thousands of them, for a dozen layouts each.
class ByteRanges {
 public:
  ByteRanges() = default;
  ByteRanges(std::initializer_list<ByteRange> list) {
    for (const ByteRange& r : list) push_back(r);
  }
  void push_back(const ByteRange& r) {
    SYSTOLE_CHECK(size_ < kMost, "byte ranges of an instruction");
    list_[size_++] = r;
  }
  size_t size() const { return size_; }
  ByteRange& operator[](size_t i) { return list_[i]; }
  const ByteRange& operator[](size_t i) const { return list_[i]; }
  const ByteRange* begin() const { return list_.data(); }
  const ByteRange* end() const { return list_.data() + size_; }

 private:
  static constexpr size_t kMost = isa::kVectorInputs + 1;  ///< a vector's streams; a block's A, B, bias and accumulators; a copy's two
  std::array<ByteRange, kMost> list_;
  size_t size_ = 0;
};

/// What a descriptor register holds. Emission names descriptors; `assign_descriptors` gives them registers.
using Descriptor = std::variant<isa::CopyDesc, isa::MatrixDesc, isa::VectorDesc, isa::VectorProgram>;
using DescriptorId = int32_t;
inline constexpr DescriptorId kNoDescriptor = -1;

/// A descriptor's way into its register: assign_descriptors puts it before the first that uses it.
struct WriteDescriptor {
  DescriptorId id;
  isa::Engine engine;
  uint8_t index;
};

/// What is emitted: descriptors, which are large, by number (instruction_of in descriptors.h puts them in).
using EngineOperation = std::variant<isa::Load, isa::Store, isa::Matrix, isa::Vector, isa::Dequantize, WriteDescriptor>;

struct Emitted {
  EngineOperation operation;
  uint32_t layer;
  ByteRanges ranges;
  DescriptorId desc = kNoDescriptor, program = kNoDescriptor;
};

/// A constant as it lies in DRAM: plain, or B packed into panels of `panel` columns, [G][N / panel][K][panel]; codes of few bits
/// in records of group_rows x panel.
struct ConstantUse {
  ValueId value;
  int64_t panel;  ///< 0: plain
  uint64_t offset;
  int64_t bytes;
  const Node* grouped = nullptr;  ///< the contract with group_rows whose B this is
};

/// Staging memory: rotates through its bytes so that a new tile rarely waits for the reader of an old one.
class Ring {
 public:
  Ring(int64_t base, int64_t bytes, int64_t group, int64_t align_bytes) : base_(base), bytes_(bytes), group_(group), align_bytes_(align_bytes) {}
  /// From another byte to the same end; nothing of it is in use.
  void begin_at(int64_t base);
  /// Who reads the block while MX runs. VX's constants and tiles keep to the first lock groups of the ring, so that MX,
  /// which holds the groups of its operands all the time, does not keep VX from them.
  enum class Side { kMatrix, kVector };
  /// What is allocated until the next call lies in the next lock group, as far as it fits: LD fills the tile of one group while VX
  /// works on another and ST empties a third.
  void begin_tile();
  void end_tiles() { in_tile_ = turns_ = false; }
  /// The same for what VX reads and writes beside MX: until end_tiles, it takes turns in four lock groups of the ring, where it has so many.
  void begin_vector_tile();
  /// Scratchpad address of a free block, or -1. Blocks of align_bytes and more start on a lock group if they can.
  int64_t allocate(int64_t bytes, Side side);
  void free(int64_t address);
  int64_t bytes() const { return bytes_; }
  int64_t base() const { return base_; }
  /// End of what was in use, as an address; 0 if nothing was.
  int64_t peak() const { return peak_; }

 private:
  int64_t find(int64_t bytes, int64_t align, int64_t from, int64_t begin, int64_t end) const;
  int64_t vector_area() const { return turns_ ? 4 * group_ : bytes_ >= 6 * group_ ? 2 * group_ : bytes_ >= 3 * group_ ? group_ : 0; }
  struct Live {
    int64_t address, bytes;
  };
  int64_t base_, bytes_, group_, align_bytes_, head_ = 0, vector_head_ = 0, peak_ = 0;
  bool in_tile_ = false, turns_ = false;
  std::vector<Live> live_;
};

/// Thrown when a tiling does not fit the ring; the caller tries the next.
struct RingFull {};

class Emitter {
 public:
  Emitter(const Graph& graph, const Schedule& schedule, const Placement& placement, const Machine& machine, const Preferences& preferences);

  const Graph& graph;
  const Schedule& schedule;
  const Placement& placement;
  const Machine& machine;
  std::vector<Emitted> code;
  std::vector<ConstantUse> constants;
  uint64_t constant_bytes = 0;
  uint32_t layer = 0;
  Ring ring;
  int next_half = 0;  ///< accumulator half of the next block
  TileSearch tiles;
  const Preferences preferences;

  void push(const EngineOperation& operation, const ByteRanges& ranges, DescriptorId desc = kNoDescriptor, DescriptorId program = kNoDescriptor) {
    code.push_back({operation, layer, ranges, desc, program});
  }

  /// Strided copy, in bytes; loops collapse, their order is chosen (element order does not matter: source and target are
  /// different tensors), and more than five are unrolled. `fill` replaces the source.
  struct Copy {
    isa::Engine engine = isa::Engine::kLoad;
    isa::Space src = isa::Space::kDram, dst = isa::Space::kScratchpad;
    uint64_t src_address = 0, dst_address = 0;
    int64_t element_bytes = 1;
    Shape extents;
    std::vector<int64_t> src_strides, dst_strides;
    uint64_t fill_bits = 0;
  };
  void copy(const Copy& copy);
  int64_t most_copied_bytes = INT64_MAX;  ///< by one instruction, about
  struct CopyLoop {
    int64_t extent, src, dst;
  };

  std::vector<Descriptor> descriptors;
  DescriptorId describe(Descriptor descriptor);
  /// The micro-program of a map, made by `make` where the last two were other maps'.
  template <class F>
  DescriptorId program_of(const Node& map, F&& make) {
    if (programmed_[0].first != &map) std::swap(programmed_[0], programmed_[1]);
    if (programmed_[0].first != &map) programmed_[0] = {&map, describe(make())};
    return programmed_[0].second;
  }

  /// DRAM offset (from the constants' base) of a constant in this layout. Constants' addresses are relocated by link.
  uint64_t constant_offset(ValueId value, int64_t panel, int64_t bytes, const Node* grouped = nullptr);

  int64_t allocate(int64_t bytes, Ring::Side side) {
    const int64_t at = ring.allocate(bytes, side);
    if (at < 0) throw RingFull{};
    return at;
  }

  /// State to return to when a tiling turns out not to fit.
  struct Mark {
    size_t code, constants;
    uint64_t constant_bytes;
    Ring ring;
    int next_half;
  };
  Mark mark() const { return {code.size(), constants.size(), constant_bytes, ring, next_half}; }
  void rewind(const Mark& mark);

  Location location(ValueId v) const {
    Location l = placement.of[static_cast<size_t>(schedule.root[static_cast<size_t>(v)])];
    l.address += static_cast<uint64_t>(schedule.offset[static_cast<size_t>(v)]);
    return l;
  }
  /// From here on the ring that step `s` has.
  void ring_for(size_t s) { ring.begin_at(placement.ring_base[s]); }
  /// Emits `work` with bytes [from, to) of the ring, of which nothing is in use.
  template <class F>
  void within(int64_t from, int64_t to, F&& work) {
    Ring whole = std::exchange(ring, Ring(ring.base() + from, to - from, machine.group_bytes(), preferences.ring_align_bytes));
    work();
    ring_peak_ = std::max(ring_peak_, ring.peak());
    ring = std::move(whole);
  }
  /// End of what was in use of any ring, as an address.
  int64_t ring_peak() const { return std::max(ring_peak_, ring.peak()); }
  /// In bytes.
  std::vector<int64_t> strides(ValueId v) const {
    const Value& value = graph.value(v);
    const Strides& placed = schedule.strides[static_cast<size_t>(v)];
    auto list = placed.empty() ? row_major_strides(value.shape) : placed.of;
    for (int64_t& s : list) s *= bytes_of(value.type);
    return list;
  }
  /// Of the element at `index` (of the first dimensions; 0 in the others), in bytes.
  int64_t offset(ValueId v, std::span<const int64_t> index) const {
    const Strides& placed = schedule.strides[static_cast<size_t>(v)];
    const Value& value = graph.value(v);
    int64_t elements = 0, dense = 1;
    for (size_t d = value.shape.size(); d-- > 0; dense *= value.shape[d]) {
      if (d >= index.size()) continue;
      elements += placed.empty() ? index[d] * dense : d == 0 ? placed.image(index[0]) : index[d] * placed.of[d];
    }
    return elements * bytes_of(value.type);
  }
  bool resident(ValueId v) const { return location(v).stored && location(v).space == isa::Space::kScratchpad; }

 private:
  /// Iterations of loop `cut`, `step` at a time.
  void copy_parts(const Copy& copy, const std::vector<CopyLoop>& loops, size_t cut, int64_t step);

  int64_t ring_peak_ = 0;
  std::array<std::pair<const Node*, DescriptorId>, 2> programmed_{{{nullptr, kNoDescriptor}, {nullptr, kNoDescriptor}}};
  std::map<std::tuple<ValueId, int64_t, const Node*>, uint64_t> constant_index_;
};

/// Addresses at and above this bit are offsets into the constants until `link` relocates them.
inline constexpr uint64_t kConstantBit = uint64_t{1} << 39;

}  // namespace systole
