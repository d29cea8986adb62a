// MX depthwise: what kernels for integers and floats share. Pixels go several at once, whose chains are independent, sixteen channels at a time, taps in order.
#pragma once
#include <functional>
#include <type_traits>

#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/pixel_runs.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

inline constexpr int64_t kChannelGroup = 64;  ///< channels of packed B come in whole groups
inline constexpr int kTogether = kNativeLanes == 16 ? 8 : 4;  ///< pixels whose chains run together
inline int64_t padded_channels(int64_t n) { return (n + kChannelGroup - 1) / kChannelGroup * kChannelGroup; }
inline int64_t taps_of(const isa::MatrixDesc& d) { return int64_t{d.kernel_h} * d.kernel_w; }

/// Evenly spaced pixels under each tap.
struct TapRows {
  const uint8_t* const* taps;
  int64_t pitch;
  const uint8_t* at(int64_t tap, int64_t pixel) const { return taps[tap] + pixel * pitch; }
};
/// Which of them are there.
class TapColumns {
 public:
  TapColumns(const isa::MatrixDesc& d, const PixelRuns::ColumnEdges& edges) : edges_(edges), stride_(d.stride_w), dilation_(d.dilation_w), taps_(d.kernel_w) {}
  /// All that pixels [first, first + count) of a run see.
  bool all(int64_t first, int64_t count) const { return !edges_.outside || (column(first, 0) >= 0 && column(first + count - 1, taps_ - 1) < edges_.count); }
  /// `there`, where the column `tap` of a row of taps away from a pixel's first is, else what is outside.
  const uint8_t* or_outside(const uint8_t* there, int64_t pixel, int64_t tap) const {
    const int64_t c = column(pixel, tap);
    return !edges_.outside || (c >= 0 && c < edges_.count) ? there : edges_.outside;
  }

 private:
  int64_t column(int64_t pixel, int64_t tap) const { return edges_.first + pixel * stride_ + tap * dilation_; }
  PixelRuns::ColumnEdges edges_;
  int64_t stride_, dilation_, taps_;
};

class Depthwise : public Kernel {
 public:
  Depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), packed_(std::move(packed)), taps_(taps_of(d_)), n_(op.n),
        runs_(op_, memory.scratchpad.data(), {.element_bytes = operand_bytes(static_cast<MacFormat>(d_.format)), .outside = static_cast<uint8_t>(d_.format == 0 ? d_.a_zero : 0), .joined = false, .edges = d_.format == 0}) {}
  WorkClass work_class() const override { return WorkClass::kDepthwise; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return runs_.runs() * pieces_of_run(); }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * n_ * taps_) / 15; }
  void run(int64_t begin, int64_t end) const override {
    PixelRuns::Reader reader(runs_);
    in_mode([&] { runs_.visit_pieces(reader, begin, end, pieces_of_run(), std::bind_front(&Depthwise::sum_run, this)); });
  }

 protected:
  /// Pixels [first, last) of the run whose first one is pixel `begin` of the block.
  virtual void sum_pixels(int64_t begin, int64_t first, int64_t last, const TapRows& rows) const = 0;
  /// f of the first of so many pixels and their count as a constant, as few times as it takes.
  template <class F>
  static void together(int64_t first, int64_t last, F f) {
    int64_t at = first;
    for (; last - at >= kTogether; at += kTogether) f(at, std::integral_constant<int, kTogether>());
    for (; last - at >= 4; at += 4) f(at, std::integral_constant<int, 4>());
    for (; last - at >= 2; at += 2) f(at, std::integral_constant<int, 2>());
    if (at < last) f(at, std::integral_constant<int, 1>());
  }
  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  int64_t taps_, n_;
  const PixelRuns runs_;

 private:
  static constexpr int64_t kPiece = 32;  ///< pixels of a run, about
  int64_t pieces_of_run() const { return (runs_.pixels() + kPiece - 1) / kPiece; }
  /// f in the chains' mode. Formats of several parts are split first, which keeps subnormals.
  template <class F>
  void in_mode(F f) const {
    if (static_cast<MacFormat>(d_.format) != MacFormat::kBF16) return f();
    const FlushMode flush;
    f();
  }
  void sum_run(const uint8_t* const* taps, int64_t run_begin, int64_t first, int64_t last) const { sum_pixels(run_begin, first, last, {taps, runs_.pitch()}); }
};

void pack_depthwise_integers(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> depthwise_integers(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed);

}  // namespace systole::SYSTOLE_LANES
#endif
