#include "runtime/rebatch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "runtime/inputs.h"
#include "systole/systole.h"

namespace systole {
namespace {

/// Nodes on x [1, ...], the last one's output being the graph's.
class Chain {
 public:
  explicit Chain(const Shape& shape) : last_(g.add_value("x", DType::kF32, shape)) {
    g.value(last_).shape_known = true;
    g.inputs = {last_};
  }
  Chain& then(const char* type, std::map<std::string, Attribute> attributes = {}, const std::vector<int64_t>& ints = {}) {
    std::vector<ValueId> inputs = {last_};
    if (!ints.empty()) inputs.push_back(g.add_constant(std::string(type) + ".ints", std::make_shared<const Tensor>(Tensor::from_ints(ints, {static_cast<int64_t>(ints.size())}))));
    last_ = g.add_value("v" + std::to_string(g.nodes.size()), DType::kF32, {});
    g.nodes.push_back({"n" + std::to_string(g.nodes.size()), OnnxOp{"", type, 18, std::move(attributes)}, inputs, {last_}});
    g.outputs = {last_};
    return *this;
  }
  /// A node whose first input is a constant, as a class token in front of what is there.
  Chain& with(const char* type, const Tensor& constant, std::map<std::string, Attribute> attributes = {}) {
    const ValueId c = g.add_constant("constant", std::make_shared<const Tensor>(constant));
    then(type, std::move(attributes));
    g.nodes.back().inputs.insert(g.nodes.back().inputs.begin(), c);
    return *this;
  }
  std::vector<int64_t> shape_at(size_t node) const { return g.value(g.nodes[node].inputs[1]).constant->to_ints(); }
  std::vector<std::vector<int64_t>> reshapes() const {
    std::vector<std::vector<int64_t>> shapes;
    for (size_t n = 0; n < g.nodes.size(); ++n) {
      if (std::get<OnnxOp>(g.nodes[n].op).type == "Reshape") shapes.push_back(shape_at(n));
    }
    return shapes;
  }
  Graph g;

 private:
  ValueId last_;
};

std::string failure_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

TEST(Rebatch, ShapesThatBeginWithOneFollow) {
  Chain c({1, 2, 3});
  c.then("Relu").then("Reshape", {}, {1, 6}).then("Reshape", {}, {1, -1, 2});
  rebatch(c.g, 5);
  EXPECT_EQ(c.g.value(c.g.inputs[0]).shape, (Shape{5, 2, 3}));
  EXPECT_EQ(c.g.value(c.g.nodes[1].inputs[1]).constant->to_ints(), (std::vector<int64_t>{5, 6}));
}

using Perm = std::vector<int64_t>;

/// nn.MultiheadAttention: tokens first, heads of all samples together, then tokens of all samples as rows of a matrix.
TEST(Rebatch, SamplesAreFollowedThroughHeadsAndRows) {
  Chain c({1, 4, 6});
  c.then("Transpose", {{"perm", Perm{1, 0, 2}}}).then("Reshape", {}, {4, 3, 2}).then("Transpose", {{"perm", Perm{1, 0, 2}}}).then("Softmax", {{"axis", int64_t{-1}}}).then("Transpose", {{"perm", Perm{1, 0, 2}}});
  c.then("Reshape", {}, {4, 6}).then("Relu").then("Reshape", {}, {4, 1, 6}).then("Transpose", {{"perm", Perm{1, 0, 2}}});
  rebatch(c.g, 5);
  EXPECT_EQ(c.shape_at(1), (std::vector<int64_t>{4, 15, 2}));
  EXPECT_EQ(c.shape_at(5), (std::vector<int64_t>{20, 6}));
  EXPECT_EQ(c.shape_at(7), (std::vector<int64_t>{4, 5, 6}));
}

/// Swin: windows of all samples, a mask for each of a sample's, and back.
TEST(Rebatch, SamplesAreFollowedThroughWindows) {
  Chain c({1, 4, 4, 2});
  c.then("Reshape", {}, {1, 2, 2, 2, 2, 2}).then("Transpose", {{"perm", Perm{0, 1, 3, 2, 4, 5}}}).then("Reshape", {}, {4, 4, 2}).with("Add", Tensor::from_floats({0, 1, 2, 3}, {4, 1, 1})).then("Softmax", {{"axis", int64_t{1}}});
  c.then("Reshape", {}, {1, 2, 2, 2, 2, 2}).then("Transpose", {{"perm", Perm{0, 1, 3, 2, 4, 5}}}).then("Reshape", {}, {1, 4, 4, 2});
  rebatch(c.g, 3);
  EXPECT_EQ(c.reshapes(), (std::vector<std::vector<int64_t>>{{3, 2, 2, 2, 2, 2}, {12, 4, 2}, {3, 2, 2, 2, 2, 2}, {3, 4, 4, 2}}));
}

TEST(Rebatch, EverySampleHasTheClassToken) {
  Chain c({1, 4, 6});
  c.then("Relu").with("Concat", Tensor::from_floats({1, 2, 3, 4, 5, 6}, {1, 1, 6}), {{"axis", int64_t{1}}}).then("Neg");
  rebatch(c.g, 2);
  EXPECT_EQ(std::count_if(c.g.nodes.begin(), c.g.nodes.end(), [](const Node& n) { return std::get<OnnxOp>(n.op).type == "Tile"; }), 1);
}

TEST(Rebatch, SamplesThatWouldMixAreRefused) {
  Chain c({1, 4});
  c.then("Transpose", {{"perm", std::vector<int64_t>{1, 0}}}).then("Reshape", {}, {1, 4});
  EXPECT_NE(failure_of([&] { rebatch(c.g, 2); }), "");
}

TEST(Rebatch, OutputsThatDoNotFollowAreNamed) {
  Chain c({1, 4});
  c.then("ReduceSum", {{"keepdims", int64_t{1}}}, {0});
  EXPECT_NE(failure_of([&] { rebatch(c.g, 3); }).find("output 'v0' [1,4]"), std::string::npos);
  Chain scalar({1, 4});
  scalar.g.value(scalar.g.inputs[0]).shape = {};
  scalar.then("Relu");
  EXPECT_NE(failure_of([&] { rebatch(scalar.g, 3); }).find("first axis is the batch"), std::string::npos);
  EXPECT_NE(failure_of([&] { rebatch(scalar.g, 0); }).find("1 to 65536"), std::string::npos);
}

TEST(Rebatch, NodesWithoutTheirInputsAreRefused) {
  for (const char* type : {"LSTM", "Reshape"}) {
    for (const bool second : {false, true}) {  // the importer leaves no empty inputs at the end
      Chain c({1, 4});
      c.then("Relu").then(type, {}, {1, 4});
      auto& inputs = c.g.nodes[1].inputs;
      second ? void(inputs[0] = kNoValue) : inputs.clear();
      EXPECT_NE(failure_of([&] { rebatch(c.g, 2); }), "") << type << ", " << second;
    }
  }
}

/// A batch through the compiler: each sample's outputs are those it has alone, bit for bit.
TEST(Rebatch, ABatchIsItsSamples) {
  for (const char* name : {"lenet", "resnet8", "letters", "tones"}) {
    const std::string path = ::testing::TempDir() + "/" + name + ".onnx";
    write_architecture(name, path, 1, 0).value();
    CompileOptions o;
    o.cache = false;
    const Compiled one = compile(path, o).value().model;
    o.batch = 3;
    const Compiled three = compile(path, o).value().model;
    const TensorInfo in = inputs_of(three).at(0);
    ASSERT_EQ(in.shape[0], 3) << name;
    const Tensor all = random_input(in, 7);
    const Tensor together = run(three, {all}).value().at(0);
    ASSERT_EQ(together.shape[0], 3) << name;
    for (size_t n = 0; n < 3; ++n) {
      const TensorInfo single = inputs_of(one).at(0);
      Tensor x(single.type, single.shape);
      std::copy_n(all.bytes.begin() + static_cast<long>(n * x.bytes.size()), x.bytes.size(), x.bytes.begin());
      const Tensor y = run(one, {x}).value().at(0);
      EXPECT_TRUE(std::equal(y.bytes.begin(), y.bytes.end(), together.bytes.begin() + static_cast<long>(n * y.bytes.size()))) << name << ", sample " << n;
    }
  }
}

}  // namespace
}  // namespace systole
