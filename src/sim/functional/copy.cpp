#include <cstring>

#include "isa/geometry.h"
#include "sim/functional/executor.h"

namespace systole {
namespace {

template <class T>
void copy_inner(uint8_t* dst, const uint8_t* src, int64_t n, int64_t dst_stride, int64_t src_stride) {
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, src + i * src_stride, sizeof v);
    std::memcpy(dst + i * dst_stride, &v, sizeof v);
  }
}

}  // namespace

/// Elements are copied in loop order; a copy whose source and target overlap sees its own writes.
void execute_copy(Memory& memory, const isa::CopyOp& op) { copy_between(op, op.src == isa::Space::kFill ? nullptr : memory.bytes(op.src) + op.src_address, memory.bytes(op.dst) + op.dst_address); }

void copy_between(const isa::CopyOp& op, const uint8_t* from, uint8_t* to) {
  const isa::CopyDesc& d = *op.desc;
  const bool fill = op.src == isa::Space::kFill;
  uint8_t pattern[8];
  std::memcpy(pattern, &op.src_address, 8);
  const uint8_t* src0 = fill ? pattern : from;
  uint8_t* dst0 = to;
  const size_t last = isa::kCopyDims - 1;
  for (uint32_t e : d.extents) {
    if (e == 0) return;
  }
  const int64_t src_inner = fill ? 0 : d.src_strides[last], dst_inner = d.dst_strides[last], n = d.extents[last];
  const bool dense = !fill && src_inner == d.element_bytes && dst_inner == d.element_bytes && op.src != op.dst;
  std::array<uint32_t, isa::kCopyDims> index{};
  int64_t src = 0, dst = 0;
  for (;;) {
    if (dense) std::memcpy(dst0 + dst, src0 + src, static_cast<size_t>(n * d.element_bytes));
    else if (d.element_bytes == 1) copy_inner<uint8_t>(dst0 + dst, src0 + src, n, dst_inner, src_inner);
    else if (d.element_bytes == 2) copy_inner<uint16_t>(dst0 + dst, src0 + src, n, dst_inner, src_inner);
    else if (d.element_bytes == 4) copy_inner<uint32_t>(dst0 + dst, src0 + src, n, dst_inner, src_inner);
    else copy_inner<uint64_t>(dst0 + dst, src0 + src, n, dst_inner, src_inner);
    size_t k = last;
    for (;;) {
      if (k == 0) return;
      --k;
      if (!fill) src += d.src_strides[k];
      dst += d.dst_strides[k];
      if (++index[k] < d.extents[k]) break;
      if (!fill) src -= d.src_strides[k] * d.extents[k];
      dst -= d.dst_strides[k] * d.extents[k];
      index[k] = 0;
    }
  }
}

}  // namespace systole
