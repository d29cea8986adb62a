// MX depthwise: what kernels for integers and floats share. Pixels go in runs whose chains are independent, sixteen channels at a time, taps in order.
#pragma once
#include <optional>
#include <type_traits>

#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

inline constexpr int64_t kChannelGroup = 64;  ///< channels of packed B come in whole groups
inline constexpr int kRun = kNativeLanes == 16 ? 8 : 4;  ///< pixels whose chains run together
inline int64_t padded_channels(int64_t n) { return (n + kChannelGroup - 1) / kChannelGroup * kChannelGroup; }
inline int64_t taps_of(const isa::MatrixDesc& d) { return int64_t{d.kernel_h} * d.kernel_w; }

class Depthwise : public Kernel {
 public:
  Depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), pixels_(op_, memory.scratchpad.data()), packed_(std::move(packed)), taps_(taps_of(d_)), n_(op.n) {
    outside_.assign(static_cast<size_t>(n_ * 4), d_.format == 0 ? static_cast<uint8_t>(d_.a_zero) : 0);
  }
  WorkClass work_class() const override { return WorkClass::kDepthwise; }
  int64_t pieces() const override { return op_.out_rows * pieces_of_row(); }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * n_ * taps_) / 15; }
  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<int64_t> buffer;
    std::optional<FlushMode> flush;
    if (static_cast<MacFormat>(d_.format) == MacFormat::kBF16) flush.emplace();  // others split into parts first
    for (int64_t piece = begin, next; piece < end; piece = next) {  // adjacent ones of a row as one
      const int64_t row = piece / pieces_of_row(), column = piece % pieces_of_row() * kPiece;
      next = std::min(end, (row + 1) * pieces_of_row());
      int64_t p = row * op_.out_columns + column;
      for (int64_t left = std::min<int64_t>((next - piece) * kPiece, op_.out_columns - column), n; left > 0; left -= n, p += n) {
        n = pixels_.alike(p, static_cast<int>(pixels_.inside(p) ? left : std::min<int64_t>(left, kRun)));
        run_pixels(p, static_cast<int>(n), pixels_.places(p, static_cast<int>(n), outside_.data(), buffer));
      }
    }
  }

 protected:
  /// Pixels of a row, all without a tap in the padding, or up to kRun with one.
  virtual void run_pixels(int64_t first, int count, const PixelPlaces& places) const = 0;
  /// f of the count as a constant, as few times as it takes.
  template <class F>
  static void in_runs(int count, F f) {
    int at = 0;
    for (; count - at >= kRun; at += kRun) f(at, std::integral_constant<int, kRun>());
    for (; count - at >= 4; at += 4) f(at, std::integral_constant<int, 4>());
    for (; count - at >= 2; at += 2) f(at, std::integral_constant<int, 2>());
    if (at < count) f(at, std::integral_constant<int, 1>());
  }
  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  const PixelMap pixels_;
  std::shared_ptr<const PackedB> packed_;
  int64_t taps_, n_;
  std::vector<uint8_t> outside_;

 private:
  static constexpr int64_t kPiece = 32;  ///< columns of a row of pixels that are one piece
  int64_t pieces_of_row() const { return (op_.out_columns + kPiece - 1) / kPiece; }
};

void pack_depthwise_integers(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> depthwise_integers(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed);

}  // namespace systole::SYSTOLE_LANES
#endif
