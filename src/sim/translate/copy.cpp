// LD and ST: the copy's loops once more in the order that suits a cache: runs of bytes where there are any, else squares of
// a transposition.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "isa/geometry.h"
#include "sim/translate/host.h"
#include "sim/translate/kernel.h"

namespace systole {
namespace {

struct Loop {
  int64_t extent, src, dst;
};

template <class T>
void copy_square(uint8_t* dst, const uint8_t* src, const Loop& outer, const Loop& inner) {
  for (int64_t i = 0; i < outer.extent; ++i) {
    for (int64_t j = 0; j < inner.extent; ++j) {
      T v;
      std::memcpy(&v, src + i * outer.src + j * inner.src, sizeof v);
      std::memcpy(dst + i * outer.dst + j * inner.dst, &v, sizeof v);
    }
  }
}

/// The same where the target's elements lie together, kInner of them per line of the source: a picture's planes become pixels.
template <class T, int kInner>
void copy_planes(uint8_t* dst, const uint8_t* src, const Loop& outer, int64_t plane) {
  for (int64_t i = 0; i < outer.extent; ++i, dst += outer.dst, src += sizeof(T)) {
    SYSTOLE_UNROLL for (int j = 0; j < kInner; ++j) std::memcpy(dst + j * static_cast<int>(sizeof(T)), src + j * plane, sizeof(T));
  }
}
template <class T>
void copy_elements(uint8_t* dst, const uint8_t* src, const Loop& outer, const Loop& inner) {
  const bool planes = inner.dst == sizeof(T) && outer.src == sizeof(T);
  if (planes && inner.extent == 3) return copy_planes<T, 3>(dst, src, outer, inner.src);
  if (planes && inner.extent == 4) return copy_planes<T, 4>(dst, src, outer, inner.src);
  copy_square<T>(dst, src, outer, inner);
}

/// Runs of a length that is known, or of any (0).
template <int64_t kBytes>
void copy_runs(uint8_t* dst, const uint8_t* src, const Loop& outer, const Loop& inner, int64_t bytes) {
  for (int64_t i = 0; i < outer.extent; ++i)
    for (int64_t j = 0; j < inner.extent; ++j) std::memcpy(dst + i * outer.dst + j * inner.dst, src + i * outer.src + j * inner.src, static_cast<size_t>(kBytes ? kBytes : bytes));
}

class Copy final : public Kernel {
 public:
  Copy(Memory& memory, const isa::CopyOp& op) : from_(op.src == isa::Space::kFill ? nullptr : memory.bytes(op.src) + op.src_address), to_(memory.bytes(op.dst) + op.dst_address), op_(op) {
    const isa::CopyDesc& d = *op.desc;
    element_ = d.element_bytes;
    literal_ = op.src == isa::Space::kFill || overlaps() || writes_twice();
    for (uint32_t e : d.extents) literal_ = literal_ || e == 0;
    if (literal_) return;
    for (size_t k = isa::kCopyDims; k-- > 0;) add({d.extents[k], d.src_strides[k], d.dst_strides[k]});
    // Bytes that stay together move as one.
    const auto run = std::find_if(loops_.begin(), loops_.end(), [&](const Loop& l) { return l.src == element_ && l.dst == element_; });
    if (run != loops_.end()) run_bytes_ = run->extent * element_, loops_.erase(run);
    choose_square();
    positions_ = 1;
    for (const Loop& l : loops_) positions_ *= l.extent;
  }
  WorkClass work_class() const override { return WorkClass::kCopy; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return literal_ ? 1 : positions_; }
  double cost_ns() const override { return literal_ ? 0 : static_cast<double>(positions_ * outer_.extent * inner_.extent) * (run_bytes_ ? 4 + static_cast<double>(run_bytes_) / 16 : 1); }

  void run(int64_t begin, int64_t end) const override {
    if (literal_) return copy_between(op_, from_, to_);
    for (int64_t p = begin; p < end; ++p) {
      int64_t rest = p, src = 0, dst = 0;
      for (const Loop& l : loops_) src += rest % l.extent * l.src, dst += rest % l.extent * l.dst, rest /= l.extent;
      square(to_ + dst, from_ + src);
    }
  }

 private:
  bool overlaps() const {
    const auto [from, from_end] = isa::copied_bytes(op_, false);
    const auto [to, to_end] = isa::copied_bytes(op_, true);
    return op_.src == op_.dst && from < to_end && to < from_end;
  }
  /// Whether two elements may have one target, of which the last in loop order must stay.
  bool writes_twice() const {
    std::array<std::pair<int64_t, int64_t>, isa::kCopyDims> loops;  // stride, extent
    for (size_t k = 0; k < loops.size(); ++k) loops[k] = {std::abs(op_.desc->dst_strides[k]), op_.desc->extents[k]};
    std::sort(loops.begin(), loops.end());
    int64_t reach = op_.desc->element_bytes;
    for (auto [stride, extent] : loops) {
      if (extent <= 1) continue;
      if (stride < reach) return true;
      reach = stride * (extent - 1) + reach;
    }
    return false;
  }
  /// Appends the next loop outwards, joined with the one before where both sides advance as one.
  void add(const Loop& l) {
    if (l.extent == 1) return;
    if (!loops_.empty() && l.src == loops_.back().src * loops_.back().extent && l.dst == loops_.back().dst * loops_.back().extent) loops_.back().extent *= l.extent;
    else loops_.push_back(l);
  }
  Loop take(int64_t Loop::*stride) {
    auto best = loops_.end();
    for (auto it = loops_.begin(); it != loops_.end(); ++it) {
      if (best == loops_.end() || std::abs((*it).*stride) < std::abs((*best).*stride)) best = it;
    }
    if (best == loops_.end()) return {1, 0, 0};
    const Loop l = *best;
    loops_.erase(best);
    return l;
  }
  /// The loops nearest in the target and nearest in the source, to be walked together.
  void choose_square() {
    inner_ = take(&Loop::dst);
    outer_ = take(&Loop::src);
  }

  void square(uint8_t* dst, const uint8_t* src) const {
    constexpr int64_t kSide = 32;
    for (int64_t i = 0; i < outer_.extent; i += kSide) {
      for (int64_t j = 0; j < inner_.extent; j += run_bytes_ ? inner_.extent : kSide) {
        const Loop a{std::min(kSide, outer_.extent - i), outer_.src, outer_.dst}, b{run_bytes_ ? inner_.extent : std::min(kSide, inner_.extent - j), inner_.src, inner_.dst};
        uint8_t* to = dst + i * a.dst + j * b.dst;
        const uint8_t* from = src + i * a.src + j * b.src;
        if (run_bytes_) runs(to, from, a, b);
        else if (element_ == 1) copy_elements<uint8_t>(to, from, a, b);
        else if (element_ == 2) copy_elements<uint16_t>(to, from, a, b);
        else if (element_ == 4) copy_elements<uint32_t>(to, from, a, b);
        else copy_elements<uint64_t>(to, from, a, b);
      }
    }
  }
  void runs(uint8_t* dst, const uint8_t* src, const Loop& a, const Loop& b) const {
    switch (run_bytes_) {
      case 16: return copy_runs<16>(dst, src, a, b, 16);
      case 32: return copy_runs<32>(dst, src, a, b, 32);
      case 64: return copy_runs<64>(dst, src, a, b, 64);
      case 128: return copy_runs<128>(dst, src, a, b, 128);
      default: return copy_runs<0>(dst, src, a, b, run_bytes_);
    }
  }

  const uint8_t* from_;
  uint8_t* to_;
  const isa::CopyOp op_;
  bool literal_ = false;
  int64_t element_ = 1, run_bytes_ = 0, positions_ = 1;
  std::vector<Loop> loops_;
  Loop inner_{1, 0, 0}, outer_{1, 0, 0};
};

/// By the definition, records shared among threads: weights that only matrix instructions read are packed once instead.
class DequantizeRecords final : public Kernel {
 public:
  DequantizeRecords(Memory& memory, const isa::DequantizeOp& op) : from_(memory.dram.data() + op.src_address), to_(memory.scratchpad.data() + op.dst_address), op_(op) {}
  WorkClass work_class() const override { return WorkClass::kCopy; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return op_.records; }
  double cost_ns() const override { return 2 * static_cast<double>(op_.elements()); }
  void run(int64_t begin, int64_t end) const override { dequantize_records(op_, from_, to_, begin, end); }

 private:
  const uint8_t* from_;
  uint8_t* to_;
  const isa::DequantizeOp op_;
};

}  // namespace

std::unique_ptr<Kernel> dequantize_kernel(Memory& memory, const isa::DequantizeOp& op) { return std::make_unique<DequantizeRecords>(memory, op); }

std::unique_ptr<Kernel> copy_kernel(Memory& memory, const isa::CopyOp& op) { return std::make_unique<Copy>(memory, op); }

}  // namespace systole
