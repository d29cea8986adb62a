#include "architectures/architectures.h"

#include <filesystem>

#include "architectures/cnn_writer.h"
#include "architectures/recurrent.h"
#include "architectures/small.h"
#include "architectures/transformers.h"
#include "base/error.h"

namespace systole {
namespace {

using Activation = CnnWriter::Activation;

/// He et al. 2015, "Deep residual learning", table 1, bottlenecks with the stride in the 3 x 3 (v1.5).
void resnet50(CnnWriter& w, const std::string& path) {
  Feature x = w.max_pool(w.conv(w.input(), 64, 7, 2), 3, 2, 1);
  const struct { int64_t channels, blocks, stride; } kStages[] = {{64, 3, 1}, {128, 4, 2}, {256, 6, 2}, {512, 3, 2}};
  for (const auto& stage : kStages) {
    for (int64_t i = 0; i < stage.blocks; ++i) {
      const int64_t stride = i == 0 ? stage.stride : 1;
      Feature y = w.conv(w.conv(w.conv(x, stage.channels, 1), stage.channels, 3, stride), 4 * stage.channels, 1, 1, Activation::kNone, 1, 0.3f);
      x = w.add_relu(y, i == 0 ? w.conv(x, 4 * stage.channels, 1, stride, Activation::kNone, 1, 0.7f) : x, true);
    }
  }
  w.classifier(x, 1000);
  w.save(path);
}

/// Sandler et al. 2018, "MobileNetV2", table 2.
void mobilenetv2(CnnWriter& w, const std::string& path) {
  Feature x = w.conv(w.input(), 32, 3, 2, Activation::kRelu6);
  const struct { int64_t expand, channels, blocks, stride; } kStages[] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (const auto& stage : kStages) {
    for (int64_t i = 0; i < stage.blocks; ++i) {
      const int64_t stride = i == 0 ? stage.stride : 1, hidden = x.channels * stage.expand;
      Feature y = stage.expand == 1 ? x : w.conv(x, hidden, 1, 1, Activation::kRelu6);
      y = w.conv(w.conv(y, hidden, 3, stride, Activation::kRelu6, hidden), stage.channels, 1, 1, Activation::kNone);
      x = stride == 1 && x.channels == stage.channels ? w.add_relu(y, x, false) : y;
    }
  }
  w.classifier(w.conv(x, 1280, 1, 1, Activation::kRelu6), 1000);
  w.save(path);
}

/// MLPerf Tiny image classification: three stages of one block each on CIFAR-10.
void resnet8(CnnWriter& w, const std::string& path) {
  Feature x = w.conv(w.input(), 16, 3);
  for (int64_t channels : {16, 32, 64}) {
    const int64_t stride = channels == 16 ? 1 : 2;
    Feature y = w.conv(w.conv(x, channels, 3, stride), channels, 3, 1, Activation::kNone, 1, 0.5f);
    x = w.add_relu(y, stride == 1 ? x : w.conv(x, channels, 1, stride, Activation::kNone), true);
  }
  w.classifier(x, 10);
  w.save(path);
}

/// MLPerf Tiny keyword spotting: 49 x 10 MFCC frames, four depthwise-separable blocks (Zhang et al. 2017, "Hello Edge").
void write_ds_cnn(const std::string& path, uint64_t seed, int64_t) {
  CnnWriter w("ds-cnn", seed, 1, 49, 10);
  Feature x = w.conv_rect(w.input(), 64, 10, 4, 2, {4, 1, 5, 1}, 25);
  for (int i = 0; i < 4; ++i) x = w.conv(w.conv(x, 64, 3, 1, Activation::kRelu, 64), 64, 1);
  w.classifier(x, 12);
  w.save(path);
}

/// Ronneberger et al. 2015 with padded convolutions and an eighth of the channels: segmentation of 4 classes.
void write_unet(const std::string& path, uint64_t seed, int64_t size) {
  if (size % 16) fail(ErrorCode::kBadInput, "--size", std::to_string(size), "a multiple of 16 for unet");
  CnnWriter w("unet", seed, 3, size, size);
  auto twice = [&](const Feature& x, int64_t channels) { return w.conv(w.conv(x, channels, 3), channels, 3); };
  std::vector<Feature> skips;
  Feature x = w.input();
  for (int64_t channels : {16, 32, 64, 128}) {
    skips.push_back(twice(x, channels));
    x = w.max_pool(skips.back(), 2, 2, 0);
  }
  x = twice(x, 256);
  for (int64_t channels : {128, 64, 32, 16}) {
    x = twice(w.concat(skips.back(), w.up_conv(x, channels)), channels);
    skips.pop_back();
  }
  w.finish(w.conv(x, 4, 1, 1, Activation::kNone), path, "Sigmoid");
}

/// LeCun et al. 1998 in today's dress: two convolutions with maximum pools, two layers; ten classes of 28 x 28 digits.
void write_lenet(const std::string& path, uint64_t seed, int64_t size) {
  CnnWriter w("lenet", seed, 1, size, size);
  const Feature x = w.max_pool(w.conv(w.max_pool(w.conv(w.input(), 8, 5), 2, 2, 0), 16, 5), 2, 2, 0);
  w.dense_classifier(x, {64, 10});
  w.save(path);
}

/// A network for pictures of three channels, in float or in QDQ form.
template <void (*network)(CnnWriter&, const std::string&), bool kQdq>
void write(const std::string& path, uint64_t seed, int64_t size) {
  CnnWriter w(std::filesystem::path(path).stem().string(), seed, 3, size, size, kQdq);
  network(w, path);
}

constexpr Architecture kList[] = {
    {"resnet50", "image classification, 4.1 GMAC (He et al. 2015)", write<resnet50, false>, 224},
    {"resnet50-qdq", "the same in QDQ form: uint8 activations, int8 weights per channel", write<resnet50, true>, 224},
    {"mobilenetv2", "image classification, 0.3 GMAC (Sandler et al. 2018)", write<mobilenetv2, false>, 224},
    {"mobilenetv2-qdq", "the same in QDQ form", write<mobilenetv2, true>, 224},
    {"resnet8", "MLPerf Tiny image classification, 12.5 MMAC", write<resnet8, false>, 32},
    {"resnet8-qdq", "the same in QDQ form", write<resnet8, true>, 32},
    {"lenet", "digit recognition, 28 x 28 (LeCun et al. 1998)", write_lenet, 28},
    {"ds-cnn", "MLPerf Tiny keyword spotting, 2.7 MMAC", write_ds_cnn, 49},
    {"unet", "semantic segmentation (Ronneberger et al. 2015, narrow)", write_unet, 256},
};

}  // namespace

std::span<const Architecture> architectures() {
  static const std::vector<Architecture> all = [] {
    std::vector<Architecture> list(std::begin(kList), std::end(kList));
    for (const auto more : {recurrent_architectures(), transformer_architectures(), small_architectures()}) list.insert(list.end(), more.begin(), more.end());
    return list;
  }();
  return all;
}

const Architecture& find_architecture(const std::string& name) {
  std::string names;
  for (const Architecture& a : architectures()) {
    if (name == a.name) return a;
    names += (names.empty() ? "" : ", ") + std::string(a.name);
  }
  fail(ErrorCode::kNotFound, "architecture '" + name + "'", "no such architecture", names);
}

}  // namespace systole
