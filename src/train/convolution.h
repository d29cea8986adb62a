// Two-dimensional convolutions as training needs them: the gradients of data and weights, which transposed convolutions share.
#pragma once
#include "ops/chunk.h"
#include "train/builder.h"

namespace systole {

/// Attributes of a convolution from x to y, both [N, C, H, W]. Fails (kUnsupported) for other ranks.
struct ConvolutionGeometry {
  int64_t kernel[2], stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[2] = {0, 0}, in[2], out[2], groups;
  ConvolutionGeometry(const Node& node, const Shape& x, const Shape& weights, const Shape& y);

  /// Input rows that the kernel's first tap reads, from the first output to the last, in padded coordinates.
  int64_t reach(size_t i) const { return (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1; }
  /// The input with its pads, as far as the kernel reaches.
  ValueId padded(Builder& b, ValueId input) const;
  /// The padded input as one tap of the kernel sees it, [.., OH, OW].
  ValueId seen_by_tap(Builder& b, ValueId whole, int64_t kh, int64_t kw) const;
};

/// A transposed convolution from x to y with the pads that auto_pad or output_shape stand for (ConvTranspose 11). Fails (kUnsupported) where
/// y is more than it reaches.
Node with_pads(const Node& node, const Shape& x, const Shape& weights, const Shape& y);

/// Values [N, C, h, w] that lie stride[0] x stride[1] apart, row-major by the place of their first, as one [N, C, h stride[0], w stride[1]].
/// kNoValue: zeros. `part` is their shape.
ValueId interleave(Builder& b, const std::vector<ValueId>& phases, const int64_t (&stride)[2], const Shape& part);

/// dX [N, C, H, W] of dY: the gradient convolved with the turned kernel [Co, C, KH, KW]; with strides, one plain convolution for each
/// place within a stride. A transposed convolution is the same, and has a bias.
ValueId convolution_data_gradient(Builder& b, const ConvolutionGeometry& g, ValueId dy, ValueId weights, const Shape& input, ValueId bias = kNoValue);
/// dW [Co, C, KH, KW] and, where wanted, dB [Co].
struct WeightGradient {
  ValueId weights, bias = kNoValue;
};
/// How dB is summed: not; from the gradient as products read it; or also as a product with a row of ones, which costs no further pass over the
/// gradient but wants operands that keep their values (fp8 scales each by its largest).
enum class BiasSum { kNone, kOfOperands, kOfProducts };

/// Tap by tap: channels of the output's gradient against channels of the input, contracted over all pixels of the batch. Samples are taken
/// in chunks of so many `elements` of both (at least one sample).
WeightGradient convolution_weight_gradient(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient, BiasSum bias = BiasSum::kNone, int64_t elements = kChunkElements);

/// Transposed convolutions whose weights are no constants, as convolutions.
void spread_transposed_convolutions(Graph& graph);

}  // namespace systole
