// The quantiser on real models: accuracy on labelled sets against the float model (../shared/models), written to
// quantization.md; and, everywhere, that every method gives a model that imports, runs in integers and stays close.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "import/onnx.h"
#include "import/writer.h"
#include "passes/pipeline.h"
#include "quantize/ranges.h"
#include "runtime/npy.h"
#include "systole/systole.h"

namespace systole {
namespace {

const std::string kDev = std::string(SYSTOLE_SHARED) + "/models/dev/";
std::string path(const std::string& name) { return std::string(SYSTOLE_BUILD) + "/" + name; }

struct Case {
  const char *model, *data, *labels;
  float scale;
  std::vector<float> mean, std;
  int64_t samples;
};

DataOptions data_of(const Case& c, int64_t samples) { return {kDev + "data/" + c.data, *c.labels ? kDev + "data/" + c.labels : "", samples, c.scale, c.mean, c.std}; }

/// Accuracy in percent points: float, quantised.
std::pair<double, double> accuracies(const Case& c, const std::string& quantised) {
  VerifyOptions v;
  v.data = data_of(c, c.samples), v.reference = kDev + c.model + ".onnx";
  const VerifyReport r = verify_model(quantised, {}, v).value();
  return {r.reference_accuracy, r.accuracy};
}

TEST(Quantization, AccuracyOnLabelledSets) {
  const Case kCases[] = {
      {"mnist-12ms", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", 1, {}, {}, 2000},
      {"resnet2b-cifar", "cifar10/test", "", 255, {0.4914f, 0.4822f, 0.4465f}, {0.247f, 0.2435f, 0.2616f}, 500},
      {"cifar-imageclassifier", "cifar10/test", "", 255, {0.5f}, {0.5f}, 500},
      {"tinycnn-fp32", "cifar10/test", "", 255, {0.4914f, 0.4822f, 0.4465f}, {0.247f, 0.2435f, 0.2616f}, 500},
      {"vit-pgd", "cifar10/test", "", 255, {0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}, 500},
  };
  if (!file_exists(kDev + "manifest.json")) {
    std::printf("no ../shared/models here: no labelled sets\n");
    return;
  }
  std::string page =
      "# Quantisation\n\nWritten by the test `quantization`. `systole quantize` on the development models that have labelled data, 500 samples of calibration, defaults otherwise\n"
      "(percentile ranges, equalisation, bias correction) and `--max-drop` 0.4 for int8, 1.5 for int4; accuracy by `systole verify` on the samples named, which for CIFAR-10 (500 pictures at\n"
      "hand) are those of the calibration. int4: weights alone, in groups of up to 32 or per channel, activations bf16. *float*: layers that `--max-drop` left in float. 500 samples resolve 0.2 points.\n"
      "Products are counted with weights, and in int8 those of two activations too. What lies between a product and the next one in a Transformer (biases, GELU, softmax, residual sums of\n"
      "normalised values) stays in float and is computed while the product drains: [decisions/0031](decisions/0031-codes-between-products.md), with BERT-base's figures.\n"
      "Models of several inputs are calibrated and verified with one `.npz` that has an array [N, ...] of each input's name.\n"
      "What stays in float is computed in fp32, as other runtimes do, or with `--precision int8-bf16` in bf16: up to ten times faster where much of it stays\n"
      "([decisions/0032](decisions/0032-the-rest-in-bf16.md)); `systole explain` says for a model and a machine what each would bring.\n\n"
      "| model | samples | float top-1 | int8 top-1 | points | float | int4 weights top-1 | points | float |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const Case& c : kCases) {
    std::string row = fmt::format("| {} | {} |", c.model, c.samples);
    for (const char* weights : {"int8", "int4"}) {
      QuantizeOptions o;
      o.data = data_of(c, 500), o.weights = weights, o.max_drop = weights == std::string("int8") ? 0.4 : 1.5;
      const std::string file = path(std::string(c.model) + "-" + weights + ".onnx");
      const QuantizeReport q = quantize_model(kDev + c.model + ".onnx", file, {}, o).value();
      const auto [was, is] = accuracies(c, file);
      if (weights == std::string("int8")) row += fmt::format(" {:.2f} % |", was);
      row += fmt::format(" {:.2f} % | {:+.2f} | {} of {} |", is, is - was, q.float_layers.size(), q.layers + static_cast<int64_t>(q.float_layers.size()));
      EXPECT_GE(is, was - (weights == std::string("int8") ? 0.5 : 2.0)) << c.model << " " << weights;
    }
    page += row + "\n";
  }
  write_file(path("quantization.md"), page);
  const auto doc = read_file(std::string(SYSTOLE_TESTS) + "/../docs/quantization.md");
  EXPECT_EQ(page, std::string(doc.begin(), doc.end())) << "docs/quantization.md is not what this test wrote: copy " << path("quantization.md");
}

TEST(Quantization, EveryMethodGivesIntegerModels) {
  write_architecture("resnet8", path("q-resnet8.onnx"), 1, 32).value();
  Tensor samples(DType::kF32, {6, 3, 32, 32});
  for (int64_t i = 0; i < samples.count(); ++i) samples.set(i, static_cast<double>(i * 7919 % 2001) / 1000 - 1);
  write_npy(path("q-samples.npy"), samples);
  for (const char* method : {"minmax", "percentile", "mse", "entropy"}) {
    QuantizeOptions o;
    o.data.data = path("q-samples.npy"), o.method = method;
    const QuantizeReport r = quantize_model(path("q-resnet8.onnx"), path("q8.onnx"), {}, o).value();
    EXPECT_GT(r.sqnr_db, 15) << method;
    EXPECT_LT(static_cast<double>(r.weight_bytes), static_cast<double>(r.weight_bytes_before) * 0.3) << method;
    const FrontResult front = run_front(import_onnx(path("q8.onnx"), {}), "int8");
    for (const Node& n : front.graph.nodes) {
      if (const auto* contract = std::get_if<Contract>(&n.op)) EXPECT_EQ(contract->format, MacFormat::kInt8) << method << " " << n.name;
    }
  }
  QuantizeOptions o;
  o.data.data = path("q-samples.npy"), o.method = "guess";
  EXPECT_FALSE(quantize_model(path("q-resnet8.onnx"), path("q8.onnx"), {}, o));
  o.method = "mse", o.data.data = path("nothing here");
  EXPECT_FALSE(quantize_model(path("q-resnet8.onnx"), path("q8.onnx"), {}, o));
}

TEST(Quantization, RangesOfKnownHistograms) {
  Histogram h;
  Tensor t(DType::kF32, {1, 400001});
  for (int64_t i = 0; i < 400000; ++i) t.set(i, static_cast<double>(i) / 400000);
  t.set(400000, 100);  // one outlier
  h.add_extremes(t), h.add_counts(t);
  EXPECT_EQ(choose_range(h, "minmax").hi, 100.0f);
  EXPECT_LT(choose_range(h, "percentile").hi, 1.2f);
  EXPECT_LE(choose_range(h, "mse").hi, 100.0f);
  const Affine a = affine_of({-1, 3});
  EXPECT_EQ(a.zero, 64);
  EXPECT_FLOAT_EQ(a.scale, 4.0f / 255);
  EXPECT_EQ(affine_of({0, 0}).scale, 1.0f);
}

}  // namespace
}  // namespace systole
