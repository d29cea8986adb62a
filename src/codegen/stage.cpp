#include "codegen/stage.h"

#include <algorithm>

namespace systole {
namespace {

std::vector<int64_t> byte_strides(const Shape& shape, int64_t element) {
  auto s = row_major_strides(shape);
  for (int64_t& x : s) x *= element;
  return s;
}

int64_t dot(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

int64_t staged_bytes(const Emitter& e, ValueId value, const Box& box) { return e.resident(value) ? 0 : element_count(box.extent) * bytes_of(e.graph.value(value).type); }

Tile StagedInput::get(const Box& box) {
  const Value& v = e_.graph.value(value_);
  const int64_t element = bytes_of(v.type);
  const auto strides = byte_strides(v.shape, element);
  if (e_.resident(value_)) return {e_.location(value_).address, strides, std::vector<int64_t>(v.shape.size(), 0)};
  const auto dense = byte_strides(box.extent, element);
  if (address_ < 0 || !(box == box_)) {
    release();
    address_ = e_.allocate(element_count(box.extent) * element, Ring::Side::kVector);
    box_ = box;
    Emitter::Copy c;
    c.src_address = (v.constant ? kConstantBit + e_.constant_offset(value_, 0, stored_bytes(v)) : e_.location(value_).address) + static_cast<uint64_t>(dot(box.lo, strides));
    c.dst_address = static_cast<uint64_t>(address_);
    c.element_bytes = element, c.extents = box.extent, c.src_strides = strides, c.dst_strides = dense;
    e_.copy(c);
  }
  return {static_cast<uint64_t>(address_), dense, box.lo};
}

void StagedInput::release() {
  if (address_ >= 0) e_.ring.free(address_);
  address_ = -1;
}

Tile StagedOutput::get(const Box& box) {
  const Value& v = e_.graph.value(value_);
  const int64_t element = bytes_of(v.type);
  SYSTOLE_CHECK(e_.schedule.strides[static_cast<size_t>(value_)].images == 0 || box.extent[0] == 1, "several images of " + v.name);
  if (e_.resident(value_)) return {e_.location(value_).address + static_cast<uint64_t>(e_.offset(value_, box.lo)), e_.strides(value_), box.lo};
  address_ = e_.allocate(element_count(box.extent) * element, Ring::Side::kVector);
  return {static_cast<uint64_t>(address_), byte_strides(box.extent, element), box.lo};
}

void StagedOutput::store(const Box& box) {
  if (address_ < 0) return;
  const Value& v = e_.graph.value(value_);
  const int64_t element = bytes_of(v.type);
  const auto strides = e_.strides(value_);
  Emitter::Copy c;
  c.engine = isa::Engine::kStore;
  c.src = isa::Space::kScratchpad, c.dst = isa::Space::kDram;
  c.src_address = static_cast<uint64_t>(address_);
  c.dst_address = e_.location(value_).address + static_cast<uint64_t>(e_.offset(value_, box.lo));
  c.element_bytes = element, c.extents = box.extent, c.src_strides = byte_strides(box.extent, element), c.dst_strides = strides;
  e_.copy(c);
  e_.ring.free(address_);
  address_ = -1;
}

Box input_box(const Map& map, size_t k, const Shape& shape, const std::vector<int64_t>& lo, const std::vector<int64_t>& extent) {
  Box box;
  for (size_t d = 0; d < shape.size(); ++d) {
    const IndexExpr& x = map.accesses[k].index[d];
    int64_t first = x.offset, last = x.offset;
    for (const IndexTerm& t : x.terms) {
      const size_t i = static_cast<size_t>(t.loop);
      const int64_t a = t.coefficient * lo[i], b = t.coefficient * (lo[i] + extent[i] - 1);
      first += std::min(a, b), last += std::max(a, b);
    }
    first = std::clamp<int64_t>(first, 0, shape[d]), last = std::clamp<int64_t>(last + 1, first, shape[d]);
    box.lo.push_back(first), box.extent.push_back(last - first);
  }
  return box;
}

}  // namespace systole
