// Layers of convolutional networks over ModelWriter, with He-initialised seeded weights.
#pragma once
#include <random>

#include "import/writer.h"

namespace systole {

/// A value and its channels and extent, as the architectures build it.
struct Feature {
  std::string name;
  int64_t channels, size;
  float scale = 0;  ///< quantisation step of the value, in QDQ networks
};

class CnnWriter {
 public:
  /// `quantised`: QDQ form, uint8 activations with fixed ranges and int8 weights per channel.
  CnnWriter(const std::string& name, uint64_t seed, int64_t channels, int64_t height, int64_t width, bool quantised = false);

  enum class Activation { kNone, kRelu, kRelu6 };
  Feature input();
  Feature conv(const Feature& x, int64_t out, int64_t kernel, int64_t stride = 1, Activation activation = Activation::kRelu, int64_t groups = 1, float gain = 1);
  /// Explicit kernel and padding for networks whose kernels are not square.
  Feature conv_rect(const Feature& x, int64_t out, int64_t kh, int64_t kw, int64_t stride, const std::vector<int64_t>& pads, int64_t out_size);
  Feature up_conv(const Feature& x, int64_t out);  ///< 2 x 2 transposed convolution, stride 2
  Feature add_relu(const Feature& a, const Feature& b, bool relu);
  Feature max_pool(const Feature& x, int64_t kernel, int64_t stride, int64_t pad);
  Feature concat(const Feature& a, const Feature& b);
  /// Global average pool and a fully connected layer to `classes`, as output "logits".
  void classifier(const Feature& x, int64_t classes);
  /// Fully connected layers of these widths over all of x, Relu between them, as output "logits". Float networks only.
  void dense_classifier(const Feature& x, const std::vector<int64_t>& widths);
  void finish(const Feature& x, const std::string& path, const std::string& op = "Identity");
  void save(const std::string& path) const { writer_.save(path); }

 private:
  Tensor random_tensor(const Shape& shape, float deviation);
  std::string weights(const Shape& shape, float deviation);
  /// Weights [Co, ...] and bias [Co] for an input of this step: float, or DequantizeLinear of int8 and int32.
  std::pair<std::string, std::string> parameters(const Shape& shape, float deviation, float bias_deviation, float input_scale);
  /// Quantise and dequantise: uint8 over [0, 6] after an activation, [-4, 4] otherwise. Nothing in float networks.
  Feature requantised(Feature x, bool non_negative);
  Feature activate(std::string y, int64_t channels, int64_t size, Activation activation);
  ModelWriter writer_;
  std::mt19937_64 rng_;
  int64_t channels_, height_;
  bool quantised_;
  int next_ = 0;
};

}  // namespace systole
