// What Resize and Upsample ask for: extents, and the samples that each output reads along an axis.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Source: ONNX Resize (10, 11, 13, 18, 19), Upsample (7, 9).
struct ResizeRequest {
  std::string mode, coordinates, nearest;
  Shape shape;  ///< of the result
  std::vector<double> scales, roi_begin, roi_end;
  double cubic = -0.75, extrapolation = 0;
  bool exclude_outside = false, antialias = false;

  /// For an input of shape `in`. `constant(k, name)` is input k, or an error.
  ResizeRequest(const Node& node, const Shape& in, const std::function<TensorPtr(size_t k, const char* name)>& constant);
  /// Cubic kernels, antialiasing and crops: a product with a matrix for each axis.
  bool is_product() const { return mode == "cubic" || antialias || is_crop(); }
  bool is_crop() const { return coordinates == "tf_crop_and_resize"; }
  /// Whether an axis stays as it is.
  bool keeps(size_t d, int64_t in) const { return shape[d] == in && (!is_product() || (scales[d] == 1 && roi_begin[d] == 0 && roi_end[d] == 1)); }
};

/// Where each output index of one axis reads: two source indices and the weight of the second; one where `hi` is empty.
struct AxisSamples {
  std::vector<int64_t> lo, hi;
  std::vector<float> weight;
};
/// Of nearest and linear.
AxisSamples sample_axis(const ResizeRequest& r, size_t d, int64_t in);
/// The same as [in, out] weights.
Tensor sample_matrix(const AxisSamples& samples, int64_t in);
/// [in, out] weights of a product; `outside` marks outputs that read beyond the input (crops).
Tensor axis_matrix(const ResizeRequest& r, size_t d, int64_t in, std::vector<bool>& outside);

}  // namespace systole
