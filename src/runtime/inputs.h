// Input data as users have it: .npy, raw .bin, PNG or JPEG photographs, or seeded random numbers.
#pragma once
#include <array>
#include <string>

#include "systole/systole.h"

namespace systole {

/// How a picture becomes a tensor: v = (pixel / scale - mean[c]) / std[c], in fp32.
struct ImageOptions {
  float scale = 255;
  std::array<float, 3> mean{0, 0, 0}, std{1, 1, 1};
  bool bgr = false;
  int resize_shorter = 0;         ///< shorter side after resizing; 0: 256 / 224 of the crop, as for ImageNet
  bool stretch = false;           ///< resize to the input's extents without keeping the aspect ratio or cropping
  std::string layout = "auto";    ///< nchw, nhwc, or auto: the axis of extent 1 or 3
};

/// Reads a file for an input of this type and shape. Fails with the path when it does not fit.
Tensor read_input(const std::string& path, const TensorInfo& info, const ImageOptions& image);

/// Seeded random data: floats normal (mean 0, deviation 1), integers over their range, but int64 0 or 1 (valid as token,
/// segment, mask and position); the same on every host.
Tensor random_input(const TensorInfo& info, uint64_t seed);

/// A value name as a file name: other characters than letters, digits, '.', '-' and '_' become '_'.
std::string file_name_of(const std::string& value_name);

}  // namespace systole
