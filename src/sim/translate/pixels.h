// Where the pixels of a matrix instruction's block lie in the scratchpad, worked out once per geometry.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "sim/translate/host.h"

namespace systole {

/// Where a few adjacent pixels lie under each tap.
struct PixelPlaces {
  uintptr_t base;
  const int64_t* taps;     ///< from the base to each tap
  const int64_t* offsets;  ///< and from there to the pixels
  int64_t step;            ///< offsets from a tap's pixels to the next tap's: 0 where they share them
  const uint8_t* at(int64_t tap, int64_t pixel) const { return reinterpret_cast<const uint8_t*>(base + static_cast<uintptr_t>(taps[tap] + offsets[tap * step + pixel])); }
};

/// Whether the rows that a row of output pixels sees are few enough to be copied: a program may ask for terabytes of padding.
bool rows_fit(const isa::MatrixOp& op);

class PixelMap {
 public:
  PixelMap(const isa::MatrixOp& op, const uint8_t* scratchpad);

  /// Bytes of output pixel p under tap (kh, kw), or `outside` in the padding.
  const uint8_t* at(int64_t p, int64_t kh, int64_t kw, const uint8_t* outside) const {
    const Pixel& x = geometry_->pixels[static_cast<size_t>(p)];
    if (!x.inside) {
      const int64_t r = x.row + kh * d_.dilation_h, c = x.column + kw * d_.dilation_w;
      if (r < 0 || r >= in_rows_ || c < 0 || c >= d_.in_columns) return outside;
    }
    return base_ + geometry_->offsets[static_cast<size_t>(p)] + geometry_->taps[static_cast<size_t>(kh * d_.kernel_w + kw)];
  }
  /// Whether no tap of pixel p is in the padding; of any of [first, first + count).
  bool inside(int64_t p) const { return geometry_->pixels[static_cast<size_t>(p)].inside != 0; }
  bool all_inside(int64_t first, int count) const { return geometry_->pixels[static_cast<size_t>(first)].inside >= static_cast<uint32_t>(count); }
  /// Bytes from each of the pixels [first, first + count) to the next, if they are evenly spaced and no tap of theirs is in the padding; else -1.
  int64_t even_pitch(int64_t first, int count) const;
  /// Pixels [first, first + count) under all taps; `buffer` holds what those near padding need.
  PixelPlaces places(int64_t first, int count, const uint8_t* outside, std::vector<int64_t>& buffer) const {
    const Geometry& g = *geometry_;
    if (all_inside(first, count)) return {reinterpret_cast<uintptr_t>(base_), g.taps.data(), g.offsets.data() + first, 0};
    return places_near_padding(first, count, outside, buffer);
  }

 private:
  struct Pixel {
    int32_t row, column;
    uint32_t inside;  ///< how many pixels from this one on have no tap in the padding
  };
  /// Shared by the instructions that have it: one network's tables of pixels would not fit the caches.
  struct Geometry {
    std::vector<Pixel> pixels;
    std::vector<int64_t> offsets, taps, zeros;  ///< of pixels and of taps, from the first byte of A; as many zeros as taps
  };
  static std::shared_ptr<const Geometry> geometry_of(const isa::MatrixOp& op);
  static Geometry work_out(const isa::MatrixOp& op);
  PixelPlaces places_near_padding(int64_t first, int count, const uint8_t* outside, std::vector<int64_t>& buffer) const;

  const isa::MatrixDesc& d_;
  const uint8_t* base_;
  int64_t in_rows_;
  std::shared_ptr<const Geometry> geometry_;
};

}  // namespace systole
