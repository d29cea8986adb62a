#include "codegen/emitter.h"

#include <algorithm>

#include "base/error.h"

namespace systole {

int64_t Ring::find(int64_t bytes, int64_t align, int64_t from, int64_t begin, int64_t end) const {
  // From the head to the end, then from the start: the first gap between live blocks.
  for (int64_t start : {std::max(from, begin), begin}) {
    int64_t at = (start + align - 1) / align * align;
    for (bool moved = true; moved && at + bytes <= end;) {
      moved = false;
      for (const Live& l : live_) {
        if (l.address < at + bytes && at < l.address + l.bytes) {
          at = (l.address + l.bytes + align - 1) / align * align;
          moved = true;
        }
      }
    }
    if (at + bytes <= end) return at;
  }
  return -1;
}

void Ring::begin_at(int64_t base) {
  const int64_t end = base_ + bytes_;
  const auto moved = [&](int64_t head) { return std::max<int64_t>(0, base_ + head - base); };
  head_ = moved(head_), vector_head_ = moved(vector_head_);
  base_ = base, bytes_ = end - base;
}

void Ring::begin_tile() {
  in_tile_ = true;
  head_ = (head_ + group_ - 1) / group_ * group_;
  if (head_ >= bytes_) head_ = 0;
}

void Ring::begin_vector_tile() {
  turns_ = bytes_ >= 10 * group_;
  if (!turns_) return;
  vector_head_ = (vector_head_ + group_ - 1) / group_ * group_;
  if (vector_head_ >= vector_area()) vector_head_ = 0;
}

int64_t Ring::allocate(int64_t bytes, Side side) {
  bytes = std::max<int64_t>(bytes, 1);
  if (in_tile_) {
    const int64_t at = find(bytes, 64, head_, 0, bytes_);
    if (at < 0) return -1;
    head_ = at + bytes;
    live_.push_back({at, bytes});
    peak_ = std::max(peak_, base_ + at + bytes);
    return base_ + at;
  }
  const int64_t area = vector_area();
  const bool small_vector = side == Side::kVector && bytes <= area / 2;
  int64_t at = -1;
  if (small_vector) {
    at = bytes >= align_bytes_ && !turns_ ? find(bytes, group_, vector_head_, 0, area) : -1;
    if (at < 0) at = find(bytes, 64, vector_head_, 0, area);
    if (at >= 0) vector_head_ = at + bytes;
  }
  if (at < 0) {
    if (bytes >= align_bytes_) at = find(bytes, group_, head_, area, bytes_);
    if (at < 0) at = find(bytes, 64, head_, area, bytes_);
    if (at < 0) at = find(bytes, 64, 0, 0, bytes_);
    if (at < 0) return -1;
    head_ = at + bytes;
  }
  live_.push_back({at, bytes});
  peak_ = std::max(peak_, base_ + at + bytes);
  return base_ + at;
}

void Ring::free(int64_t address) {
  std::erase_if(live_, [&](const Live& l) { return l.address == address - base_; });
}

Emitter::Emitter(const Graph& g, const Schedule& s, const Placement& p, const Machine& m, const Preferences& prefer)
    : graph(g), schedule(s), placement(p), machine(m), ring(0, m.memory.scratchpad_bytes, m.group_bytes(), prefer.ring_align_bytes), tiles(m), preferences(prefer) {}

void Emitter::rewind(const Mark& m) {
  code.resize(m.code);
  constants.resize(m.constants);
  constant_bytes = m.constant_bytes;
  ring = m.ring;
  next_half = m.next_half;
  std::erase_if(constant_index_, [&](const auto& e) { return e.second >= constant_bytes; });
}

DescriptorId Emitter::describe(Descriptor descriptor) {
  // Tiles of a step need few: the last ones are enough to find most again.
  constexpr size_t kRemembered = 32;
  for (size_t i = descriptors.size(), seen = 0; i-- > 0 && seen < kRemembered; ++seen) {
    if (descriptors[i] == descriptor) return static_cast<DescriptorId>(i);
  }
  descriptors.push_back(std::move(descriptor));
  return static_cast<DescriptorId>(descriptors.size() - 1);
}

uint64_t Emitter::constant_offset(ValueId value, int64_t panel, int64_t bytes, const Node* grouped) {
  const auto [it, added] = constant_index_.try_emplace({value, panel, grouped}, constant_bytes);
  if (added) {
    constants.push_back({value, panel, constant_bytes, bytes, grouped});
    constant_bytes += static_cast<uint64_t>((bytes + 63) / 64 * 64);
  }
  return it->second;
}

namespace {

using Dim = Emitter::CopyLoop;

/// Drops unit loops, puts the loops in the order of the DRAM side's strides (runs there should be long), and joins loops
/// that both sides walk as one.
std::vector<Dim> collapse(const Emitter::Copy& c) {
  std::vector<Dim> all, dims;
  for (size_t d = 0; d < c.extents.size(); ++d) {
    if (c.extents[d] != 1) all.push_back({c.extents[d], c.src == isa::Space::kFill ? 0 : c.src_strides[d], c.dst_strides[d]});
  }
  const bool by_source = c.src == isa::Space::kDram && c.dst != isa::Space::kDram;
  std::stable_sort(all.begin(), all.end(), [&](const Dim& a, const Dim& b) { return by_source ? std::abs(a.src) > std::abs(b.src) : std::abs(a.dst) > std::abs(b.dst); });
  for (const Dim& x : all) {
    if (!dims.empty()) {
      Dim& outer = dims.back();
      const bool src_joins = c.src == isa::Space::kFill || outer.src == x.src * x.extent;
      if (src_joins && outer.dst == x.dst * x.extent && outer.extent * x.extent < (1 << 24)) {
        outer = {outer.extent * x.extent, x.src, x.dst};
        continue;
      }
    }
    dims.push_back(x);
  }
  return dims;
}

/// The outermost loop that can be cut into parts of about `most_bytes`, and its iterations in one; {0, 0}: it is small enough. Where a
/// side is contiguous parts are as wide as a square of the transposer.
std::pair<size_t, int64_t> part_of(const std::vector<Dim>& dims, int64_t element, int64_t most_bytes) {
  constexpr int64_t kSquare = 64;
  int64_t bytes = element;
  for (const Dim& d : dims) bytes *= d.extent;
  if (bytes <= most_bytes) return {0, 0};
  for (size_t i = 0; i < dims.size(); ++i) {
    const int64_t whole = std::abs(dims[i].src) == element || std::abs(dims[i].dst) == element ? kSquare : 1;
    const int64_t step = ceil_div(std::max<int64_t>(1, dims[i].extent * most_bytes / bytes), whole) * whole;
    if (step < dims[i].extent) return {i, step};
  }
  return {0, 0};
}

ByteRange span(isa::Space space, uint64_t address, const std::vector<Dim>& dims, bool src, int64_t element, bool write) {
  int64_t lo = 0, hi = 0;
  for (const Dim& d : dims) {
    const int64_t reach = (src ? d.src : d.dst) * (d.extent - 1);
    (reach < 0 ? lo : hi) += reach;
  }
  return {space, address + static_cast<uint64_t>(lo), address + static_cast<uint64_t>(hi + element), write};
}

}  // namespace

void Emitter::copy_parts(const Copy& c, const std::vector<Dim>& dims, size_t cut, int64_t step) {
  Copy part = c;
  part.extents.clear(), part.src_strides.clear(), part.dst_strides.clear();
  for (const Dim& d : dims) part.extents.push_back(d.extent), part.src_strides.push_back(d.src), part.dst_strides.push_back(d.dst);
  for (int64_t i = 0; i < dims[cut].extent; i += step) {
    part.extents[cut] = std::min(step, dims[cut].extent - i);
    part.src_address = c.src_address + static_cast<uint64_t>(i * dims[cut].src);
    part.dst_address = c.dst_address + static_cast<uint64_t>(i * dims[cut].dst);
    copy(part);
  }
}

void Emitter::copy(const Copy& c) {
  std::vector<Dim> dims = collapse(c);
  if (std::any_of(c.extents.begin(), c.extents.end(), [](int64_t e) { return e == 0; })) return;
  if (dims.size() > isa::kCopyDims) return copy_parts(c, dims, 0, 1);
  if (const auto [cut, step] = part_of(dims, c.element_bytes, most_copied_bytes); step > 0) return copy_parts(c, dims, cut, step);
  isa::CopyDesc desc;
  desc.engine = c.engine;
  desc.element_bytes = static_cast<uint8_t>(c.element_bytes);
  for (size_t d = 0; d < dims.size(); ++d) {
    const size_t to = isa::kCopyDims - dims.size() + d;
    desc.extents[to] = static_cast<uint32_t>(dims[d].extent), desc.src_strides[to] = dims[d].src, desc.dst_strides[to] = dims[d].dst;
  }
  ByteRanges ranges = {span(c.dst, c.dst_address, dims, false, c.element_bytes, true)};
  if (c.src != isa::Space::kFill) ranges.push_back(span(c.src, c.src_address, dims, true, c.element_bytes, false));
  auto fill_in = [&](auto instruction) {
    instruction.src = c.src, instruction.dst = c.dst, instruction.src_imm = c.src == isa::Space::kFill ? c.fill_bits : c.src_address, instruction.dst_imm = c.dst_address;
    push(instruction, ranges, describe(desc));
  };
  if (c.engine == isa::Engine::kLoad) fill_in(isa::Load{});
  else fill_in(isa::Store{});
}

}  // namespace systole
