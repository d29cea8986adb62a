// Ranges of activations from calibration data, and the scale and zero point that they give.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// Values of one tensor over all calibration samples: extremes first, then a histogram between them.
class Histogram {
 public:
  static constexpr int kBins = 2048;
  void add_extremes(const Tensor& t);
  void add_counts(const Tensor& t);
  bool empty() const { return lo > hi; }
  float lo = INFINITY, hi = -INFINITY;
  std::vector<double> counts = std::vector<double>(kBins, 0);
  std::vector<double> channel_sums;  ///< per index of axis 1, for bias correction
  double channel_count = 0;
  double width() const { return (static_cast<double>(hi) - static_cast<double>(lo)) / kBins; }
  double centre(int bin) const { return static_cast<double>(lo) + (bin + 0.5) * width(); }
};

struct Range {
  float lo, hi;  ///< includes 0
};
/// "minmax", "percentile" (99.999 % of the values), "mse" (least squared error of 8-bit codes), "entropy" (least
/// Kullback-Leibler divergence of the histogram). Fails (kBadInput) on another name.
Range choose_range(const Histogram& h, const std::string& method);

/// Asymmetric uint8: q = round(x / scale) + zero.
struct Affine {
  float scale;
  int zero;
};
Affine affine_of(Range r);

}  // namespace systole
