// Networks of the examples that are trained on the NPU (examples/train): a recurrent classifier and a small segmenter.
#include "architectures/small.h"

#include <cmath>
#include <random>

#include "base/error.h"
#include "import/writer.h"

namespace systole {
namespace {

class SmallWriter {
 public:
  SmallWriter(const std::string& name, uint64_t seed) : writer(name, "Written by systole model with random weights of seed " + std::to_string(seed) + ", to be trained."), rng_(seed) {}
  ModelWriter writer;

  /// Uniform with this deviation.
  std::string weights(const Shape& shape, double deviation) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0, n = t.count(); i < n; ++i) t.data<float>()[i] = static_cast<float>((static_cast<double>(rng_() >> 11) * 0x1p-53 - 0.5) * 3.46 * deviation);
    return writer.constant("w" + std::to_string(next_++), t);
  }
  std::string ints(const std::vector<int64_t>& v) { return writer.constant("i" + std::to_string(next_++), Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); }
  std::string conv(const std::string& x, int64_t in, int64_t out, int64_t kernel, bool relu) {
    const int64_t p = kernel / 2;
    const std::string y = writer.node("Conv", {x, weights({out, in, kernel, kernel}, std::sqrt(2.0 / static_cast<double>(in * kernel * kernel))), weights({out}, 0.01)},
                                      {{"kernel_shape", std::vector<int64_t>{kernel, kernel}}, {"pads", std::vector<int64_t>{p, p, p, p}}});
    return relu ? writer.node("Relu", {y}) : y;
  }
  std::string dense(const std::string& x, int64_t in, int64_t out, const std::string& name = {}) {
    return writer.node("Gemm", {x, weights({out, in}, 1 / std::sqrt(static_cast<double>(in))), weights({out}, 0.01)}, {{"transB", int64_t{1}}}, name);
  }
  std::string pool(const std::string& x) { return writer.node("MaxPool", {x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}); }

 private:
  std::mt19937_64 rng_;
  int next_ = 0;
};

/// Two convolutions and two layers for 28 x 28 digits.
void write_digits(const std::string& path, uint64_t seed, int64_t size) {
  if (size % 4) fail(ErrorCode::kBadInput, "--size", std::to_string(size), "a multiple of 4");
  SmallWriter w("digits", seed);
  w.writer.input("pictures", DType::kF32, {1, 1, size, size});
  const std::string x = w.pool(w.conv(w.pool(w.conv("pictures", 1, 8, 3, true)), 8, 16, 3, true));
  const int64_t n = 16 * (size / 4) * (size / 4);
  w.dense(w.writer.node("Relu", {w.dense(w.writer.node("Flatten", {x}), n, 32)}), 32, 10, "logits");
  w.writer.output("logits", DType::kF32, {1, 10});
  w.writer.save(path);
}

constexpr int64_t kBands = 16, kHidden = 32, kTones = 8;

/// An LSTM over [B, time, 16 bands] of a spectrogram; its last state names one of 8 signals.
void write_tones(const std::string& path, uint64_t seed, int64_t steps) {
  SmallWriter w("tones", seed);
  w.writer.input("spectrogram", DType::kF32, {1, steps, kBands});
  const std::string x = w.writer.node("Transpose", {"spectrogram"}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
  const double deviation = 1 / std::sqrt(static_cast<double>(kHidden));
  const std::string all = w.writer.node("LSTM", {x, w.weights({1, 4 * kHidden, kBands}, deviation), w.weights({1, 4 * kHidden, kHidden}, deviation), w.weights({1, 8 * kHidden}, 0.01)}, {{"hidden_size", kHidden}});
  const std::string last = w.writer.node("Slice", {all, w.ints({steps - 1}), w.ints({steps}), w.ints({0})});  // [1, 1, B, hidden]
  w.dense(w.writer.node("Reshape", {last, w.ints({-1, kHidden})}), kHidden, kTones, "logits");
  w.writer.output("logits", DType::kF32, {1, kTones});
  w.writer.save(path);
}

/// A U of three levels over road scenes of 3 x size x 3/2 size: sky and land, road, marking, car.
void write_roads(const std::string& path, uint64_t seed, int64_t size) {
  if (size % 8) fail(ErrorCode::kBadInput, "--size", std::to_string(size), "a multiple of 8");
  SmallWriter w("roads", seed);
  w.writer.input("scene", DType::kF32, {1, 3, size, size * 3 / 2});
  auto twice = [&](const std::string& x, int64_t in, int64_t out) { return w.conv(w.conv(x, in, out, 3, true), out, out, 3, true); };
  auto up = [&](const std::string& x) {
    return w.writer.node("Resize", {x, "", w.writer.constant("scales" + x, Tensor::from_floats({1, 1, 2, 2}, {4}))}, {{"mode", std::string("nearest")}, {"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}});
  };
  const std::string a = twice("scene", 3, 8), b = twice(w.pool(a), 8, 16), c = twice(w.pool(b), 16, 32);
  const std::string d = twice(w.writer.node("Concat", {up(c), b}, {{"axis", int64_t{1}}}), 48, 16);
  const std::string e = twice(w.writer.node("Concat", {up(d), a}, {{"axis", int64_t{1}}}), 24, 8);
  w.writer.node("Identity", {w.conv(e, 8, 4, 1, false)}, {}, "logits");
  w.writer.output("logits", DType::kF32, {1, 4, size, size * 3 / 2});
  w.writer.save(path);
}

constexpr Architecture kList[] = {{"digits", "to train: 28 x 28 digits, 27 k parameters", write_digits, 28},
                                  {"tones", "to train: an LSTM that names one of 8 signals in 32 frames of a spectrogram", write_tones, 32},
                                  {"roads", "to train: a small U-Net over road scenes, 4 classes per pixel", write_roads, 32}};

}  // namespace

std::span<const Architecture> small_architectures() { return kList; }

}  // namespace systole
