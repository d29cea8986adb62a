// Window attributes that convolutions and pools share: kernel, strides, dilations, pads, auto_pad, ceil_mode.
#pragma once
#include <array>

#include "ops/lowering.h"

namespace systole {

/// Two spatial dimensions; one-dimensional operators use a height of 1.
struct Window {
  std::array<int64_t, 2> kernel{1, 1}, stride{1, 1}, dilation{1, 1}, pad_begin{0, 0}, pad_end{0, 0}, in{1, 1}, out{1, 1};
};

/// Reads the window of `node` for an input of logical shape [N, C, (H,) W]. Fails on ranks other than 3 and 4.
Window read_window(const Node& node, const OnnxOp& op, const Shape& input, const std::vector<int64_t>& kernel, bool ceil_mode);

/// 1 / (elements of an average pool's window inside the image, or the padded one), per output position: [OH, OW].
Tensor reciprocal_counts(const Window& w, bool count_padding);

/// The channel-last form of a [N, C, W] or [N, C, H, W] value, as [N, H, W, C].
ValueId image_form(Lowering& l, ValueId v);
ValueId image_form_as(Lowering& l, ValueId v, DType type);
/// Defines v from an image [N, H, W, C] of a tensor of logical rank 3 or 4.
void define_image(Lowering& l, const Node& node, ValueId v, ValueId image, size_t rank);

}  // namespace systole
