// Malformed and unsupported models: each gives its error, none crashes.
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "import/onnx.h"
#include "import/writer.h"
#include "base/file.h"
#include "systole/systole.h"

namespace systole {
namespace {

std::string path(const char* name) { return std::string(SYSTOLE_BUILD) + "/" + name; }

std::string compile_error(const std::string& file, CompileOptions o = {}) {
  auto r = compile(file, o);
  return r ? "" : r.error().text();
}

ModelWriter simple(const char* name) {
  ModelWriter w(name, "test");
  w.input("x", DType::kF32, {1, 3, 8, 8});
  return w;
}
void expect(const std::string& text, const char* part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST(ImportErrors, ListsEveryUnsupportedNode) {
  auto w = simple("unsupported");
  w.node("Sharpen", {w.node("Mystery", {"x"})}, {}, "y");
  w.output("y", DType::kF32, {1, 3, 8, 8});
  w.save(path("unsupported.onnx"));
  const auto text = compile_error(path("unsupported.onnx"));
  expect(text, "2 of 2 nodes");
  expect(text, "Sharpen x 1");
  expect(text, "Mystery x 1");
}

TEST(ImportErrors, CyclesAndUndefinedValues) {
  auto w = simple("cycle");
  w.node("Add", {"x", "b"}, {}, "a");
  w.node("Relu", {"a"}, {}, "b");
  w.output("b", DType::kF32, {1, 3, 8, 8});
  w.save(path("cycle.onnx"));
  expect(compile_error(path("cycle.onnx")), "depends on itself");
  auto u = simple("undefined");
  u.node("Add", {"x", "nowhere"}, {}, "y");
  u.output("y", DType::kF32, {1, 3, 8, 8});
  u.save(path("undefined.onnx"));
  expect(compile_error(path("undefined.onnx")), "'nowhere' is read but computed by no node");
  auto d = simple("twice");
  d.node("Relu", {"x"}, {}, "y");
  d.node("Abs", {"x"}, {}, "y");
  d.output("y", DType::kF32, {1, 3, 8, 8});
  d.save(path("twice.onnx"));
  expect(compile_error(path("twice.onnx")), "a second time");
}

TEST(ImportErrors, ShapesAndAttributes) {
  const struct { const char *op; std::vector<std::string> in; std::vector<ModelWriter::NamedAttribute> attributes; const char* expected; } kCases[] = {
      {"Conv", {"x", "w"}, {{"strides", std::vector<int64_t>{0, 1}}}, "strides holds 0"},
      {"Conv", {"x", "w"}, {{"group", int64_t{2}}}, "channels that divide"},
      {"Conv", {"x", "w"}, {{"strides", int64_t{1}}}, "an attribute of the wrong type"},
      {"MaxPool", {"x"}, {{"kernel_shape", std::vector<int64_t>{9, 9}}}, "a kernel that fits"},
      {"Transpose", {"x"}, {{"perm", std::vector<int64_t>{0, 1, 1, 2}}}, "a permutation"},
      {"Concat", {"x", "w"}, {{"axis", int64_t{0}}}, "equal extents"},
      {"Add", {"x", "w"}, {}, "shapes that broadcast"},
      {"Softmax", {"x"}, {{"axis", int64_t{7}}}, "axis 7"},
      {"Reshape", {"x", "shape"}, {}, "equal element counts"},
      {"Flatten", {""}, {}, "no inputs"},
      {"Relu", {}, {}, "no inputs"},
      {"Add", {"x", ""}, {}, "no input 1"},
      {"Resize", {"x"}, {{"mode", std::string("quartic")}}, "mode 'quartic'"},
      {"Loop", {"x"}, {}, "no such attribute"},
  };
  int k = 0;
  for (const auto& c : kCases) {
    auto w = simple("case");
    w.constant("w", Tensor(DType::kF32, {4, 3, 3, 3}));
    w.constant("shape", Tensor::from_ints({5, 5}, {2}));
    w.node(c.op, c.in, c.attributes, "y");
    w.output("y", DType::kF32, {1});
    const std::string file = path(("case" + std::to_string(k++) + ".onnx").c_str());
    w.save(file);
    const auto text = compile_error(file);
    EXPECT_NE(text.find(c.expected), std::string::npos) << c.op << " gave: " << text;
  }
}

TEST(ImportErrors, EveryTruncationIsAnError) {
  write_architecture("resnet8", path("r8.onnx"), 1, 32).value();
  const auto bytes = read_file(path("r8.onnx"));
  for (size_t n = 0; n < bytes.size(); n += 977) {
    EXPECT_THROW(import_onnx_bytes(bytes.data(), n, "t", "", {}), Failure) << n;
  }
  expect(compile_error(path("no such file.onnx")), "no such file");
}

TEST(ImportErrors, DamagedBytesNeverCrash) {
  const auto bytes = read_file(path("r8.onnx"));
  std::mt19937_64 rng(11);
  int compiled = 0;
  for (int i = 0; i < 300; ++i) {
    auto damaged = bytes;
    for (int k = 0; k < 4; ++k) damaged[rng() % std::min<size_t>(damaged.size(), i % 2 ? 4000 : damaged.size())] ^= static_cast<uint8_t>(1u << (rng() % 8));
    try {
      import_onnx_bytes(damaged.data(), damaged.size(), "t", "", {});
      ++compiled;
    } catch (const Failure&) {
    }
  }
  EXPECT_GT(compiled, 0);  // damage inside weights is no error
}

TEST(ImportErrors, MachineTooSmall) {
  auto w = simple("wide");
  w.constant("w", Tensor(DType::kF32, {3, 200000}));
  w.constant("r", Tensor::from_ints({64, 3}, {2}));
  w.constant("w2", Tensor(DType::kF32, {200000, 1}));
  w.node("MatMul", {w.node("MatMul", {w.node("Reshape", {"x", "r"}), "w"}), "w2"}, {}, "y");
  w.output("y", DType::kF32, {64, 1});
  w.save(path("wide.onnx"));
  CompileOptions nano;
  nano.npu = "nano";
  expect(compile_error(path("wide.onnx"), nano), "use a machine with more scratchpad");
}

}  // namespace
}  // namespace systole
