// Windows of any spatial rank: kernel, strides, dilations, pads, auto_pad, ceil_mode, and transposed output shapes.
#pragma once
#include <utility>
#include <vector>

#include "host/host.h"

namespace systole {

struct HostWindow {
  Shape kernel, in, out;
  std::vector<int64_t> stride, dilation, begin, end;

  /// Reads the attributes for an input [N, C, spatial...]; transposed: for ConvTranspose.
  HostWindow(const HostCall& c, const Shape& input, const Shape& kernel_shape, bool transposed);
  /// (tap number, offset in the input's spatial extents) of the taps of one output position that lie inside.
  std::vector<std::pair<int64_t, int64_t>> taps(const std::vector<int64_t>& out_index) const;
};

}  // namespace systole
