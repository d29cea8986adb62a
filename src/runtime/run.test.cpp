// run: what callers give it and get.
#include <gtest/gtest.h>

#include "import/graph_writer.h"
#include "runtime/inputs.h"
#include "systole/systole.h"

namespace systole {
namespace {

/// x [1, 40000] to itself, to itself in another shape, and negated; `host`: and with an output that only the host can compute.
std::string model_that_passes_its_input_on(bool host) {
  Graph g;
  const Shape shape = {1, 40'000};
  const ValueId x = g.add_value("x", DType::kF32, shape);
  g.value(x).shape_known = true;
  g.inputs = {x};
  const ValueId to = g.add_constant("to", std::make_shared<const Tensor>(Tensor::from_ints({200, 200}, {2})));
  const ValueId same = g.add_value("same", DType::kF32, shape), other = g.add_value("other", DType::kF32, {200, 200}), less = g.add_value("less", DType::kF32, shape);
  g.nodes.push_back({"same", OnnxOp{"", "Identity", 18, {}}, {x}, {same}});
  g.nodes.push_back({"other", OnnxOp{"", "Reshape", 18, {}}, {x, to}, {other}});
  g.nodes.push_back({"less", OnnxOp{"", "Neg", 18, {}}, {x}, {less}});
  g.outputs = {same, other, less};
  if (host) {
    const ValueId where = g.add_value("where", DType::kI64, {});
    g.nodes.push_back({"where", OnnxOp{"", "NonZero", 18, {}}, {x}, {where}});
    g.outputs.push_back(where);
    g.outputs.push_back(x);
  }
  const std::string path = ::testing::TempDir() + "/passes_on.onnx";
  write_onnx(g, 18, "", path);
  return path;
}

TEST(Run, OutputsOutliveTheInputsTheyAre) {
  CompileOptions o;
  o.cache = false;
  for (const bool host : {false, true}) {
    const Compiled model = compile(model_that_passes_its_input_on(host), o).value().model;
    auto input = std::make_unique<Tensor>(random_input(inputs_of(model).at(0), 3));
    const std::vector<float> x = input->to_floats();
    std::vector<Tensor> inputs;
    inputs.push_back(std::move(*input));
    std::vector<Tensor> out = run(model, inputs).value();
    ASSERT_EQ(out.size(), host ? 5u : 3u);
    for (uint8_t& byte : inputs[0].bytes) byte = 0xFF;
    inputs.clear();
    EXPECT_EQ(out[0].to_floats().size(), x.size());
    EXPECT_EQ(out[1].shape, Shape({200, 200}));
    EXPECT_EQ(out[1].to_floats(), out[0].to_floats());
    if (host) EXPECT_EQ(out[4].to_floats(), x);
    for (size_t i = 0; i < x.size(); i += 997) {
      EXPECT_NEAR(out[0].to_floats()[i], x[i], std::abs(x[i]) / 128) << "host " << host << ", element " << i;
      EXPECT_EQ(out[2].to_floats()[i], -out[0].to_floats()[i]) << "host " << host << ", element " << i;
    }
  }
}

}  // namespace
}  // namespace systole
