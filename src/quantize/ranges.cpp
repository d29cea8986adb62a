#include "quantize/ranges.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace systole {

void Histogram::add_extremes(const Tensor& t) {
  const int64_t channels = t.shape.size() >= 2 ? t.shape[1] : 0;
  int64_t inner = 1;
  for (size_t d = 2; d < t.shape.size(); ++d) inner *= t.shape[d];
  if (channels && channel_sums.empty()) channel_sums.assign(static_cast<size_t>(channels), 0);
  for (int64_t i = 0, n = t.count(); i < n; ++i) {
    const float v = static_cast<float>(t.at(i));
    if (!std::isfinite(v)) continue;
    lo = std::min(lo, v), hi = std::max(hi, v);
    if (channels && channel_sums.size() == static_cast<size_t>(channels)) channel_sums[static_cast<size_t>(i / inner % channels)] += static_cast<double>(v);
  }
  if (channels) channel_count += static_cast<double>(t.count()) / static_cast<double>(channels);
}

void Histogram::add_counts(const Tensor& t) {
  if (!(width() > 0)) return;
  for (int64_t i = 0, n = t.count(); i < n; ++i) {
    const double v = t.at(i);
    if (std::isfinite(v)) counts[static_cast<size_t>(std::clamp<int64_t>(static_cast<int64_t>((v - static_cast<double>(lo)) / width()), 0, kBins - 1))] += 1;
  }
}

Affine affine_of(Range r) {
  const float lo = std::min(r.lo, 0.0f), hi = std::max(r.hi, 0.0f), scale = (hi - lo) / 255.0f;
  if (!(scale > 0) || !std::isfinite(scale)) return {1.0f, 0};
  return {scale, static_cast<int>(std::clamp(std::nearbyintf(-lo / scale), 0.0f, 255.0f))};
}

namespace {

/// The range without the tails that hold 0.0005 % of the values each.
Range percentile(const Histogram& h) {
  double total = 0;
  for (double c : h.counts) total += c;
  const double tail = total * 0.000005;
  int first = 0, last = Histogram::kBins - 1;
  for (double sum = 0; first < last && (sum += h.counts[static_cast<size_t>(first)]) <= tail;) ++first;
  for (double sum = 0; last > first && (sum += h.counts[static_cast<size_t>(last)]) <= tail;) --last;
  return {static_cast<float>(h.centre(first) - h.width() / 2), static_cast<float>(h.centre(last) + h.width() / 2)};
}

double squared_error(const Histogram& h, Range r) {
  const Affine a = affine_of(r);
  double error = 0;
  for (int b = 0; b < Histogram::kBins; ++b) {
    const double n = h.counts[static_cast<size_t>(b)], v = h.centre(b);
    if (n == 0) continue;
    const double q = std::clamp(std::nearbyint(v / static_cast<double>(a.scale)) + a.zero, 0.0, 255.0), d = (q - a.zero) * static_cast<double>(a.scale) - v;
    error += n * d * d;
  }
  return error;
}

/// Divergence of the histogram, clipped to the range, from the one that 256 codes keep. The bin of 0, which a Relu fills, is left
/// out: it would decide alone.
double divergence(const Histogram& h, Range r) {
  const Affine a = affine_of(r);
  std::vector<double> clipped(Histogram::kBins, 0), code_sum(256, 0), code_bins(256, 0);
  auto code = [&](double v) { return static_cast<size_t>(std::clamp(std::nearbyint(v / static_cast<double>(a.scale)) + a.zero, 0.0, 255.0)); };
  const int first = std::clamp(static_cast<int>((static_cast<double>(r.lo) - static_cast<double>(h.lo)) / h.width()), 0, Histogram::kBins - 1), last = std::clamp(static_cast<int>((static_cast<double>(r.hi) - static_cast<double>(h.lo)) / h.width()), first, Histogram::kBins - 1);
  double total = 0;
  const int zero_bin = static_cast<int>(-static_cast<double>(h.lo) / h.width());
  for (int b = 0; b < Histogram::kBins; ++b) {
    if (b == zero_bin) continue;
    clipped[static_cast<size_t>(std::clamp(b, first, last))] += h.counts[static_cast<size_t>(b)], total += h.counts[static_cast<size_t>(b)];
  }
  for (int b = first; b <= last; ++b) {
    const double n = h.counts[static_cast<size_t>(b)];
    if (n > 0 && b != zero_bin) code_sum[code(h.centre(b))] += n, code_bins[code(h.centre(b))] += 1;
  }
  double kl = 0;
  for (int b = first; b <= last; ++b) {
    const double p = clipped[static_cast<size_t>(b)] / total;
    if (p <= 0 || b == zero_bin) continue;
    const size_t c = code(h.centre(b));
    const double q = h.counts[static_cast<size_t>(b)] > 0 ? code_sum[c] / code_bins[c] / total : 1e-12;
    kl += p * std::log(p / q);
  }
  return kl;
}

/// The best of 100 shrunken ranges.
template <class Cost>
Range search(const Histogram& h, Cost&& cost) {
  Range best{h.lo, h.hi};
  double least = INFINITY;
  for (int k = 100; k >= 10; --k) {
    const float f = static_cast<float>(k) / 100;
    const Range r{h.lo * f, h.hi * f};
    const double c = cost(r);
    if (c < least) least = c, best = r;
  }
  return best;
}

}  // namespace

Range choose_range(const Histogram& h, const std::string& method) {
  if (method == "minmax" || h.empty() || !(h.width() > 0)) {
    if (method != "minmax" && method != "percentile" && method != "mse" && method != "entropy") fail(ErrorCode::kBadInput, "--method", "'" + method + "'", "minmax, percentile, mse or entropy");
    return h.empty() ? Range{0, 0} : Range{h.lo, h.hi};
  }
  if (method == "percentile") return percentile(h);
  if (method == "mse") return search(h, [&](Range r) { return squared_error(h, r); });
  if (method == "entropy") return search(h, [&](Range r) { return divergence(h, r); });
  fail(ErrorCode::kBadInput, "--method", "'" + method + "'", "minmax, percentile, mse or entropy");
}

}  // namespace systole
