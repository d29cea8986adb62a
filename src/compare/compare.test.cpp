// Rooflines: bounds, published servings of the TPU paper, bad descriptions.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "compare/onnxruntime.h"
#include "compare/processor.h"

namespace systole {
namespace {

WorkItem layer(double rows, double columns, double depth, double weight_bytes) {
  return {WorkKind::kMatmul, 2 * rows * columns * depth, rows * (columns + depth) * weight_bytes, columns * depth * weight_bytes, rows, columns};
}

TEST(Processors, NeverBeatTheirRoofline) {
  for (const std::string& name : processor_names()) {
    const Processor p = load_processor(name);
    EXPECT_FALSE(p.sources.empty()) << name;
    for (int64_t batch : {1, 8, 128}) {
      for (double size : {64.0, 1000.0, 4096.0}) {
        const std::vector<WorkItem> work(3, layer(1, size, size, 1));
        const Estimate e = estimate(p, work, "int8", batch);
        EXPECT_GE(e.latency_s, 3 * 2 * size * size * static_cast<double>(batch) / p.peak_ops.at("int8")) << name;
        EXPECT_GE(e.latency_s, 3 * size * size / p.bandwidth) << name;
        EXPECT_LE(e.utilisation, 1) << name;
        EXPECT_GE(e.power_w, p.idle_w) << name;
        EXPECT_LE(e.power_w, p.busy_w * (1 + 1e-12)) << name;
      }
    }
  }
}

/// Jouppi et al., ISCA 2017: MLP0 (five layers, 20 M weights) within 7 ms serves 5,482/s on Haswell and 13,461/s on a K80 at
/// batch 16 (fp32), 225,000/s on TPU v1 at batch 200 (int8): ratios of 41 and 16.7.
TEST(Processors, TheTpuPapersServingOfMlp0) {
  const std::vector<WorkItem> fp32(5, layer(1, 2000, 2000, 4));
  auto per_second = [&](const char* name) { return 16 / estimate(load_processor(name), fp32, "fp32", 16).latency_s; };
  const double cpu = per_second("haswell-e5-2699v3"), gpu = per_second("k80");
  EXPECT_NEAR(std::log(cpu / 5482), 0, std::log(1.6));
  EXPECT_NEAR(std::log(gpu / 13461), 0, std::log(1.6));
  // The TPU's roofline: 34 GB/s of weights against 46 T multiply-adds a second.
  const double tpu = 200 / std::max(20e6 / 34e9, 200 * 20e6 / 46e12);
  EXPECT_NEAR(std::log(tpu / cpu / 41), 0, std::log(1.8));
  EXPECT_NEAR(std::log(tpu / gpu / 16.7), 0, std::log(1.8));
}

TEST(Processors, PointsAreForTheModelTheyName) {
  auto point = [](const char* model, double macs) {
    ProcessorPoint p;
    p.model = model, p.macs = macs;
    return p;
  };
  const std::vector<ProcessorPoint> points = {point("gpt2", 16e9), point("gpt2-cached", 0.1e9), point("lstm", 0)};
  EXPECT_EQ(points_of(points, "gpt2", 16.1e9).size(), 1u);
  EXPECT_EQ(points_of(points, "gpt2-cached", 0.1e9).at(0).model, "gpt2-cached");
  EXPECT_TRUE(points_of(points, "gpt2-large", 90e9).empty()) << "another size of network";
  EXPECT_EQ(points_of(points, "lstm-qdq", 1).size(), 1u) << "without a count, by name";
  EXPECT_TRUE(points_of(points, "my-lstm", 1).empty());
}

/// The roofline of a processor that was measured is fitted to it (bench/calibrate.cpp): it must stay near.
TEST(Processors, MeasuredPointsAreNear) {
  const Processor p = load_processor("h200");
  const std::string file = testing::TempDir() + "/resnet50.onnx";
  ASSERT_TRUE(write_architecture("resnet50", file, 1, 0));
  CompileOptions o;
  o.precision = "bf16";
  const auto work = workload_of_model(file, o);
  int checked = 0;
  for (const ProcessorPoint& q : points_of(p.measured, "resnet50", 4.089e9)) {
    if (q.precision == "int8") continue;
    EXPECT_NEAR(std::log(estimate(p, work, q.precision, q.batch).latency_s / q.latency_s), 0, std::log(2)) << q.precision << " " << q.batch;
    ++checked;
  }
  EXPECT_EQ(checked, 8);
}

TEST(Processors, BadDescriptionsSayWhereAndWhat) {
  const std::string path = testing::TempDir() + "/p.yaml";
  const std::string good = "name: x\nkind: GPU\npeak_gops: {fp32: 1, bf16: 1, fp16: 1, int8: 1}\nbandwidth_gbs: 1\nbusy_w: 1\nidle_w: 0\nbusy_share: 0\nunits: 1\nlaunch_us: 1\nefficiency: {matmul: 1, conv: 1, depthwise: 1, stream: 1}\n";
  const struct { std::string text; const char* expected; } kCases[] = {
      {good + "tile: [1, 1]\nidle: 3\n", "12: idle: no key of that name"}, {good + "tile: [1, wide]\n", "'wide'"}, {good + "tile: [1, 1]\nsources: all\n", "not a list"},
      {good + "tile: [1, 1]\nmeasured:\n  - {model: m, precision: bf16, batch: 1, latency: 3, source: s}\n", "latency"},
      {"[1, 2]", "mapping"}, {"name: x\nkind: GPU\n", "peak_gops"}, {"name: x\nkind: GPU\npeak_gops: {fp32: many}\nefficiency: {}\n", "fp32"}, {"a: [", "YAML"}};
  for (const auto& c : kCases) {
    write_file(path, c.text);
    try {
      load_processor(path);
      ADD_FAILURE() << c.text;
    } catch (const Failure& f) {
      EXPECT_NE(std::string(f.what()).find(c.expected), std::string::npos) << f.what();
    }
  }
  EXPECT_THROW(load_processor("abacus"), Failure);
}

TEST(OnnxRuntime, RefusalsAreErrors) {
  const std::string path = testing::TempDir() + "/nothing.onnx";
  write_file(path, "no model");
  EXPECT_THROW(measure_onnxruntime(path, {}, {"y"}, 1, 0.01), Failure);  // no library here, or its refusal
}

}  // namespace
}  // namespace systole
