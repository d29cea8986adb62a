// Random numbers: the same for the same seed on every host. A node without a seed draws from its own name.
#include <bit>
#include <cmath>
#include <random>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

std::mt19937_64 generator(const HostCall& c) {
  const auto seed = c.op().attributes.find("seed");
  if (seed != c.op().attributes.end()) {
    if (const auto* i = std::get_if<int64_t>(&seed->second)) return std::mt19937_64(static_cast<uint64_t>(*i));
    if (const auto* f = std::get_if<float>(&seed->second)) return std::mt19937_64(std::bit_cast<uint32_t>(*f));
  }
  uint64_t h = 1469598103934665603u;
  for (char ch : c.node.name) h = (h ^ static_cast<uint8_t>(ch)) * 1099511628211u;
  return std::mt19937_64(h);
}
double uniform(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53; }
double normal(std::mt19937_64& rng) {
  const double u = 1 - uniform(rng), v = uniform(rng);
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}

void run_uniform(HostCall& c) {
  const bool like = c.op().type.ends_with("Like"), gauss = c.op().type.starts_with("RandomNormal");
  Tensor& y = c.make(0, type_attribute(c.op(), like ? c.in(0).type : DType::kF32), like ? c.in(0).shape : c.op().integers("shape"));
  const double a = static_cast<double>(gauss ? c.op().real("mean", 0) : c.op().real("low", 0)), b = static_cast<double>(gauss ? c.op().real("scale", 1) : c.op().real("high", 1));
  auto rng = generator(c);
  for (int64_t i = 0, n = y.count(); i < n; ++i) y.set(i, gauss ? a + b * normal(rng) : a + (b - a) * uniform(rng));
}

void run_bernoulli(HostCall& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.make(0, type_attribute(c.op(), x.type), x.shape);
  auto rng = generator(c);
  for (int64_t i = 0, n = x.count(); i < n; ++i) y.set(i, uniform(rng) < x.at(i));
}

/// Class indices drawn from unnormalised log-probabilities [batch, classes].
void run_multinomial(HostCall& c) {
  const Tensor& x = c.in(0);
  const int64_t samples = c.op().integer("sample_size", 1);
  if (x.shape.size() != 2 || x.shape[1] < 1 || samples < 1) malformed(c.node, "shape " + to_string(x.shape), "[batch, classes]");
  Tensor& y = c.make(0, type_attribute(c.op(), DType::kI32), {x.shape[0], samples});
  auto rng = generator(c);
  for (int64_t b = 0; b < x.shape[0]; ++b) {
    double sum = 0;
    for (int64_t k = 0; k < x.shape[1]; ++k) sum += std::exp(x.at(b * x.shape[1] + k));
    for (int64_t s = 0; s < samples; ++s) {
      double left = uniform(rng) * sum;
      int64_t k = 0;
      while (k + 1 < x.shape[1] && (left -= std::exp(x.at(b * x.shape[1] + k))) > 0) ++k;
      y.set_int(b * samples + s, k);
    }
  }
}

/// Training mode keeps an element with probability 1 - ratio and scales it; the mask is the second output.
void run_dropout(HostCall& c) {
  const Tensor& x = c.in(0);
  const bool training = c.has(2) && c.in(2).int_at(0) != 0;
  const double ratio = c.has(1) ? c.in(1).at(0) : static_cast<double>(c.op().real("ratio", 0.5f));
  Tensor y = x, mask(DType::kBool, x.shape);
  auto rng = generator(c);
  for (int64_t i = 0, n = x.count(); i < n; ++i) {
    const bool keep = !training || uniform(rng) >= ratio;
    mask.set_int(i, keep);
    if (training) y.set(i, keep ? x.at(i) / (1 - ratio) : 0);
  }
  c.give(0, std::move(y));
  c.give(1, std::move(mask));
}

constexpr HostOperator kOperators[] = {
    {"", "RandomUniform", run_uniform, 0, false}, {"", "RandomUniformLike", run_uniform, 0, false}, {"", "RandomNormal", run_uniform, 0, false}, {"", "RandomNormalLike", run_uniform, 0, false},
    {"", "Bernoulli", run_bernoulli, 0, false}, {"", "Multinomial", run_multinomial, 0, false}, {"", "Dropout", run_dropout},
};

}  // namespace

std::span<const HostOperator> host_random() { return kOperators; }

}  // namespace systole
