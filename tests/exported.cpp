// Forms in which exporters, PyTorch's above all, write models: each on the NPU against the host's operators or worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "host/host.h"
#include "runtime/plan.h"

namespace systole {
namespace {

class Model {
 public:
  ValueId input(Tensor t) {
    const ValueId v = g_.add_value("in" + std::to_string(g_.inputs.size()), t.type, t.shape);
    g_.inputs.push_back(v);
    values_.emplace_back(std::move(t));
    return v;
  }
  ValueId constant(Tensor t) { return g_.add_constant("c" + std::to_string(g_.values.size()), std::make_shared<const Tensor>(std::move(t))); }
  ValueId ints(std::vector<int64_t> v) {
    const auto n = static_cast<int64_t>(v.size());
    return constant(Tensor::from_ints(std::move(v), {n}));
  }
  ValueId node(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    g_.values.push_back({std::string(type) + std::to_string(g_.values.size()), DType::kF32, {}, false, nullptr});
    const auto v = static_cast<ValueId>(g_.values.size() - 1);
    g_.nodes.push_back({g_.values.back().name, OnnxOp{"", type, 18, std::move(attributes)}, std::move(in), {v}});
    return v;
  }
  void output(ValueId v) { g_.outputs.push_back(v); }

  Tensor on_npu(const char* machine = "nano", FloatPolicy policy = {DType::kF32, MacFormat::kF32}, bool reference = false) {
    Plan plan(g_, std::make_shared<const PlanContext>(PlanContext{load_machine(machine), policy, "fp32", {}, {}, reference}));
    const Tensor y = *plan.run(values_)[0].tensor;
    host_nodes = 0;
    plan.visit_host_nodes([&](HostNodeInfo&) { ++host_nodes; });
    return y;
  }
  Tensor on_host() const {
    std::vector<HostValue> at(g_.values.size());
    for (size_t i = 0; i < g_.inputs.size(); ++i) at[static_cast<size_t>(g_.inputs[i])] = values_[i];
    for (size_t v = 0; v < at.size(); ++v) {
      if (g_.values[v].constant) at[v] = HostValue(g_.values[v].constant);
    }
    for (const Node& n : g_.nodes) {
      std::vector<HostValue> in;
      for (ValueId v : n.inputs) in.push_back(v == kNoValue ? HostValue() : at[static_cast<size_t>(v)]);
      at[static_cast<size_t>(n.outputs[0])] = run_host(n, in, {}).at(0);
    }
    return *at[static_cast<size_t>(g_.outputs[0])].tensor;
  }
  size_t host_nodes = 0;

 private:
  Graph g_;
  std::vector<HostValue> values_;
};

Tensor numbers(const Shape& shape, unsigned seed = 1) {
  std::mt19937 rng(seed);
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(rng() % 256) / 64 - 1);
  return t;
}

void expect_close(const Tensor& got, const Tensor& want, double within) {
  ASSERT_EQ(got.shape, want.shape);
  for (int64_t i = 0; i < want.count(); ++i) ASSERT_NEAR(got.at(i), want.at(i), within * std::max(1.0, std::fabs(want.at(i)))) << i;
}

/// A row of which no scratchpad of `nano` holds a part: means of large images, norms of long recordings.
TEST(Exported, LongReductionsGoInParts) {
  struct Case {
    const char* type;
    Shape shape;
    std::vector<int64_t> axes;
  };
  const Case cases[] = {{"ReduceSum", {2, 300, 500}, {1, 2}}, {"ReduceMean", {1, 3, 301, 307}, {2, 3}}, {"ReduceMax", {2, 70000, 3}, {1}}, {"ReduceMin", {140000}, {0}}, {"ReduceL2", {1, 256, 1001}, {1, 2}}, {"ReduceLogSumExp", {100000}, {0}}};
  for (const Case& c : cases) {
    Model m;
    m.output(m.node(c.type, {m.input(numbers(c.shape)), m.ints(c.axes)}, {{"keepdims", int64_t{0}}}));
    SCOPED_TRACE(c.type);
    expect_close(m.on_npu(), m.on_host(), 1e-5);
    EXPECT_EQ(m.host_nodes, 0u);
  }
}

TEST(Exported, NormsOfLongRowsGoInParts) {
  const Tensor x = numbers({1, 2, 90000});
  Model m;
  m.output(m.node("InstanceNormalization", {m.input(x), m.constant(Tensor::from_floats({1, 2}, {2})), m.constant(Tensor::from_floats({0, 3}, {2}))}));
  Tensor want(DType::kF32, x.shape);
  for (int64_t c = 0; c < 2; ++c) {
    double mean = 0, spread = 0;
    for (int64_t i = 0; i < 90000; ++i) mean += x.at(c * 90000 + i) / 90000;
    for (int64_t i = 0; i < 90000; ++i) spread += std::pow(x.at(c * 90000 + i) - mean, 2) / 90000;
    for (int64_t i = 0; i < 90000; ++i) want.set(c * 90000 + i, (x.at(c * 90000 + i) - mean) / std::sqrt(spread + 1e-5) * (c ? 2 : 1) + (c ? 3 : 0));
  }
  expect_close(m.on_npu(), want, 1e-5);
}

TEST(Exported, GlobalPoolsOfThreeDimensions) {
  const Tensor x = numbers({2, 3, 4, 5, 6});
  for (const auto& [pool, reduction] : {std::pair{"GlobalAveragePool", "ReduceMean"}, std::pair{"GlobalMaxPool", "ReduceMax"}}) {
    Model m, same;
    m.output(m.node(pool, {m.input(x)}));
    same.output(same.node(reduction, {same.input(x), same.ints({2, 3, 4})}));
    expect_close(m.on_npu(), same.on_host(), 1e-6);
    EXPECT_EQ(m.host_nodes, 0u);
  }
}

/// torch.cat of a list that begins with torch.empty(0).
TEST(Exported, EmptyTensorsInAConcatAreNothing) {
  Model m;
  const ValueId x = m.input(numbers({2, 3}));
  m.output(m.node("Concat", {m.constant(Tensor(DType::kF32, {0})), m.node("Relu", {x}), x}, {{"axis", int64_t{1}}}));
  const Tensor y = m.on_npu();
  EXPECT_EQ(y.shape, (Shape{2, 6}));
  EXPECT_EQ(y.to_floats(), m.on_host().to_floats());
}

/// nn.MultiheadAttention and Swin in evaluation mode.
TEST(Exported, DropoutOfNothingInTrainingModeIsAView) {
  Tensor yes(DType::kBool, {});
  yes.set_int(0, 1);
  const Tensor x = numbers({2, 3});
  Model m;
  m.output(m.node("Relu", {m.node("Dropout", {m.input(x), m.constant(Tensor::scalar_f32(0)), m.constant(yes)})}));
  const Tensor y = m.on_npu();
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(y.at(i), std::max(0.0, x.at(i)));
  EXPECT_EQ(m.host_nodes, 0u);
}

/// Sizes that only a run brings, as those of masks that are pasted into boxes: the same as sizes that are known.
TEST(Exported, ResizeToSizesOfTheRun) {
  using Attributes = std::map<std::string, Attribute>;
  const auto text = [](const char* s) { return Attribute{std::string(s)}; };
  const Attributes kinds[] = {{{"mode", text("nearest")}, {"coordinate_transformation_mode", text("asymmetric")}, {"nearest_mode", text("floor")}},
                              {{"mode", text("linear")}, {"coordinate_transformation_mode", text("half_pixel")}},
                              {{"mode", text("linear")}, {"coordinate_transformation_mode", text("align_corners")}},
                              {{"mode", text("cubic")}, {"coordinate_transformation_mode", text("half_pixel")}},
                              {{"mode", text("linear")}, {"antialias", int64_t{1}}}};
  for (const Attributes& kind : kinds) {
    for (const std::vector<int64_t>& to : {std::vector<int64_t>{1, 2, 9, 14}, {1, 2, 3, 4}, {1, 2, 5, 7}}) {
      const Tensor x = numbers({1, 2, 5, 7}), sizes = Tensor::from_ints(to, {4});
      Model known, later;
      known.output(known.node("Resize", {known.input(x), kNoValue, kNoValue, known.constant(sizes)}, kind));
      later.output(later.node("Resize", {later.input(x), kNoValue, kNoValue, later.input(sizes)}, kind));
      const Tensor want = known.on_npu();
      expect_close(later.on_npu(), want, 1e-5);
      expect_close(later.on_host(), want, 1e-5);
    }
  }
}

/// Kernels that need more of the input for a row of outputs than `nano` has room for: tap by tap, with the bits of the whole kernel. Half of a dilated
/// kernel's taps lie in the padding.
TEST(Exported, LargeWindowsGoTapByTap) {
  struct Case {
    Shape x, w;
    int64_t dilation, pad, stride;
  };
  for (const Case& c : {Case{{1, 960, 14, 14}, {24, 960, 3, 3}, 12, 12, 1}, {{1, 2048, 9, 11}, {16, 2048, 3, 3}, 1, 1, 2}, {{1, 1024, 13, 12}, {20, 1024, 3, 2}, 2, 0, 1}}) {
    Model m;
    const auto both = [](int64_t v, int64_t n) { return std::vector<int64_t>(static_cast<size_t>(n), v); };
    m.output(m.node("Relu", {m.node("Conv", {m.input(numbers(c.x)), m.constant(numbers(c.w, 2)), m.constant(numbers({c.w[0]}, 3))}, {{"dilations", both(c.dilation, 2)}, {"pads", both(c.pad, 4)}, {"strides", both(c.stride, 2)}})}));
    const FloatPolicy bf16{DType::kBF16, MacFormat::kBF16};
    EXPECT_EQ(m.on_npu("nano", bf16).to_floats(), m.on_npu("nano", bf16, true).to_floats());
  }
}

/// Axes are split and merged in whatever order they are stored.
TEST(Exported, ReshapesOfTransposedTensors) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 rng(seed);
    Shape factors;  // of every shape on the way
    for (size_t k = 0, n = 2 + rng() % 4; k < n; ++k) factors.push_back(1 + static_cast<int64_t>(rng() % 3));
    const auto grouped = [&](Shape f) {  // neighbours multiplied
      Shape s;
      for (size_t i = 0; i < f.size();) {
        int64_t product = f[i++];
        while (i < f.size() && rng() % 2) product *= f[i++];
        s.push_back(product);
      }
      return s;
    };
    Model m;
    ValueId v = m.node("Neg", {m.input(numbers(grouped(factors), seed))});
    Shape shape;
    for (int step = 0; step < 3; ++step) {
      shape = grouped(factors);
      v = m.node("Reshape", {v, m.ints(shape)});
      std::vector<int64_t> perm(shape.size());
      std::iota(perm.begin(), perm.end(), 0);
      std::shuffle(perm.begin(), perm.end(), rng);
      v = m.node("Transpose", {v}, {{"perm", perm}});
      factors.clear();
      for (int64_t d : perm) factors.push_back(shape[static_cast<size_t>(d)]);
      if (rng() % 2) v = m.node("Abs", {v});
    }
    m.output(m.node("Reshape", {v, m.ints(grouped(factors))}));
    const Tensor got = m.on_npu("edge"), want = m.on_host();
    ASSERT_EQ(got.shape, want.shape) << seed;
    ASSERT_EQ(got.to_floats(), want.to_floats()) << seed;
  }
}

}  // namespace
}  // namespace systole
