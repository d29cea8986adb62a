// DFT, STFT, MelWeightMatrix.
#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "host/host.h"

namespace systole {
namespace {

using Complex = std::complex<double>;

/// Sum of x[k] e^(-+ 2 pi i k f / n), directly: n is a frame length, and the host's answer is the definition.
Complex transform(const std::vector<Complex>& x, int64_t f, int64_t n, bool inverse) {
  Complex sum = 0;
  for (size_t k = 0; k < x.size() && static_cast<int64_t>(k) < n; ++k) {
    const double angle = (inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(static_cast<int64_t>(k) * f % n) / static_cast<double>(n);
    sum += x[k] * Complex(std::cos(angle), std::sin(angle));
  }
  return inverse ? sum / static_cast<double>(n) : sum;
}

/// [..., n, ..., 1 or 2] along an axis. Opset 17: axis attribute; 20: input 2.
void run_dft(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t rank = x.shape.size();
  if (rank < 2 || (x.shape.back() != 1 && x.shape.back() != 2)) malformed(c.node, "shape " + to_string(x.shape), "a last extent of 1 (real) or 2 (complex)");
  const int64_t axis = normalise_axis(c.node, c.op().opset >= 20 ? static_cast<int64_t>(c.number(2, -2)) : c.op().integer("axis", 1), rank);
  if (axis == static_cast<int64_t>(rank) - 1) malformed(c.node, "axis " + std::to_string(axis), "another than the last");
  const bool inverse = c.op().integer("inverse", 0) != 0, onesided = c.op().integer("onesided", 0) != 0, to_real = onesided && inverse;
  const size_t a = static_cast<size_t>(axis);
  const int64_t n = c.has(1) ? c.in(1).int_at(0) : to_real ? (x.shape[a] - 1) * 2 : x.shape[a], bins = onesided && !inverse ? n / 2 + 1 : n, parts = x.shape.back(), out_parts = to_real ? 1 : 2;
  if (n < 1 || n > (int64_t{1} << 20)) malformed(c.node, "length " + std::to_string(n), "1 to 2^20");
  Shape shape = x.shape;
  shape[a] = bins, shape.back() = out_parts;
  int64_t outer = 1, inner = 1;
  for (size_t d = 0; d + 1 < rank; ++d) (d < a ? outer : d > a ? inner : outer) *= d == a ? 1 : x.shape[d];
  Tensor& y = c.make(0, x.type, shape);
  std::vector<Complex> line(static_cast<size_t>(to_real ? n : x.shape[a]));
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t k = 0; k < static_cast<int64_t>(line.size()); ++k) {
        const bool mirrored = k >= x.shape[a];  // of a one-sided spectrum
        const int64_t from = ((o * x.shape[a] + std::clamp<int64_t>(mirrored ? n - k : k, 0, x.shape[a] - 1)) * inner + i) * parts;
        line[static_cast<size_t>(k)] = Complex(x.at(from), parts == 2 ? (mirrored ? -1 : 1) * x.at(from + 1) : 0);
      }
      for (int64_t f = 0; f < bins; ++f) {
        const Complex v = transform(line, f, n, inverse);
        const int64_t to = ((o * bins + f) * inner + i) * out_parts;
        y.set(to, v.real());
        if (out_parts == 2) y.set(to + 1, v.imag());
      }
    }
  }
}

/// signal [B, L, 1 or 2], frame_step, window, frame_length to [B, frames, bins, 2].
void run_stft(HostCall& c) {
  const Tensor& x = c.in(0);
  const int64_t step = c.in(1).int_at(0), length = c.has(3) ? c.in(3).int_at(0) : c.has(2) ? c.in(2).count() : 0;
  if (x.shape.size() != 3 || step < 1 || length < 1 || length > x.shape[1] || (c.has(2) && c.in(2).count() != length)) malformed(c.node, "signal " + to_string(x.shape) + ", step " + std::to_string(step) + ", frame " + std::to_string(length), "[B,L,1] or [B,L,2] and frames inside it");
  const int64_t frames = (x.shape[1] - length) / step + 1, bins = c.op().integer("onesided", 1) ? length / 2 + 1 : length, parts = x.shape[2];
  Tensor& y = c.make(0, x.type, {x.shape[0], frames, bins, 2});
  std::vector<Complex> line(static_cast<size_t>(length));
  for (int64_t b = 0; b < x.shape[0]; ++b) {
    for (int64_t f = 0; f < frames; ++f) {
      for (int64_t k = 0; k < length; ++k) {
        const int64_t from = (b * x.shape[1] + f * step + k) * parts;
        line[static_cast<size_t>(k)] = (c.has(2) ? c.in(2).at(k) : 1.0) * Complex(x.at(from), parts == 2 ? x.at(from + 1) : 0);
      }
      for (int64_t k = 0; k < bins; ++k) {
        const Complex v = transform(line, k, length, false);
        const int64_t to = ((b * frames + f) * bins + k) * 2;
        y.set(to, v.real()), y.set(to + 1, v.imag());
      }
    }
  }
}

void run_mel(HostCall& c) {
  const int64_t mels = static_cast<int64_t>(c.number(0, 0)), length = static_cast<int64_t>(c.number(1, 0)), rate = static_cast<int64_t>(c.number(2, 0)), bins = length / 2 + 1;
  if (mels < 1 || mels > 4096 || length < 1 || length > (int64_t{1} << 20) || rate < 1) malformed(c.node, "a mel matrix of " + std::to_string(mels) + " x " + std::to_string(length), "positive sizes");
  auto mel = [](double hz) { return 2595 * std::log10(1 + hz / 700); };
  const double lo = mel(c.number(3, 0)), hi = mel(c.number(4, 0));
  std::vector<int64_t> places;
  for (int64_t i = 0; i < mels + 2; ++i) {
    const double hz = 700 * (std::pow(10, (lo + static_cast<double>(i) * (hi - lo) / static_cast<double>(mels + 2)) / 2595) - 1);
    places.push_back(std::clamp<int64_t>(static_cast<int64_t>(std::floor(static_cast<double>(length + 1) * hz / static_cast<double>(rate))), 0, bins - 1));
  }
  Tensor& y = c.make(0, type_attribute(c.op(), DType::kF32), {bins, mels});
  for (int64_t m = 0; m < mels; ++m) {
    const int64_t left = places[static_cast<size_t>(m)], centre = places[static_cast<size_t>(m + 1)], right = places[static_cast<size_t>(m + 2)];
    if (centre == left) y.set(centre * mels + m, 1);
    else for (int64_t j = left; j <= centre; ++j) y.set(j * mels + m, static_cast<double>(j - left) / static_cast<double>(centre - left));
    for (int64_t j = centre; right > centre && j < right; ++j) y.set(j * mels + m, static_cast<double>(right - j) / static_cast<double>(right - centre));
  }
}

constexpr HostOperator kOperators[] = {{"", "DFT", run_dft, 6, true, true}, {"", "STFT", run_stft, 10}, {"", "MelWeightMatrix", run_mel, 7}};

}  // namespace

std::span<const HostOperator> host_signal() { return kOperators; }

}  // namespace systole
