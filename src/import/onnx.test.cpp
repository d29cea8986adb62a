// Parts of the file format that ModelWriter does not write: external data, typed fields, symbolic dimensions.
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "import/onnx.h"
#include "import/skim.h"

namespace systole {
namespace {

/// y = x + w, w an initializer that the caller fills in.
onnx::ModelProto adder() {
  onnx::ModelProto m;
  m.set_ir_version(11);
  m.add_opset_import()->set_version(21);
  auto* g = m.mutable_graph();
  g->set_name("adder");
  auto value = [](onnx::ValueInfoProto* v, const char* name, const char* symbol) {
    v->set_name(name);
    auto* t = v->mutable_type()->mutable_tensor_type();
    t->set_elem_type(onnx::TensorProto::FLOAT);
    t->mutable_shape()->add_dim()->set_dim_value(2);
    t->mutable_shape()->add_dim()->set_dim_param(symbol);
  };
  value(g->add_input(), "x", "n");
  value(g->add_output(), "y", "n");
  auto* n = g->add_node();
  n->set_op_type("Add");
  n->add_input("x"), n->add_input("w"), n->add_output("y");
  auto* w = g->add_initializer();
  w->set_name("w");
  w->set_data_type(onnx::TensorProto::FLOAT);
  w->add_dims(2), w->add_dims(1);
  return m;
}

Graph import(const onnx::ModelProto& m, const std::string& folder = "", std::map<std::string, int64_t> dims = {{"n", 3}}) {
  const std::string bytes = m.SerializeAsString();
  return import_onnx_bytes(bytes.data(), bytes.size(), "t.onnx", folder, {std::move(dims), {}, {}});
}

std::string error_of(const onnx::ModelProto& m, const std::string& folder = "", std::map<std::string, int64_t> dims = {{"n", 3}}) {
  try {
    import(m, folder, std::move(dims));
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

/// What the importer says to x [2, n], of `type`, as this constant; "" if it takes it, whose elements are then `elements`.
std::string error_of_constant(const std::string& name, const Tensor& t, std::vector<float>* elements = nullptr, int32_t type = onnx::TensorProto::FLOAT) {
  onnx::ModelProto m = adder();
  m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(type);
  for (int i = 0; i < 2; ++i) m.mutable_graph()->mutable_initializer(0)->add_float_data(1);
  const std::string bytes = m.SerializeAsString();
  try {
    const Graph g = import_onnx_bytes(bytes.data(), bytes.size(), "t.onnx", "", {{}, {}, {{name, std::make_shared<const Tensor>(t)}}});
    for (const Value& v : g.values) {
      if (v.name == "x" && elements) *elements = v.constant->to_floats();
    }
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

TensorPtr constant_of(const Graph& g) {
  for (const Value& v : g.values) {
    if (v.constant) return v.constant;
  }
  return nullptr;
}

TEST(Onnx, TypedFieldsMustMatchTheShape) {
  auto m = adder();
  auto* w = m.mutable_graph()->mutable_initializer(0);
  w->add_float_data(1.5f);
  EXPECT_NE(error_of(m).find("1 elements for shape [2,1]"), std::string::npos) << error_of(m);
  w->add_float_data(-2.0f);
  EXPECT_EQ(constant_of(import(m))->at(1), -2.0);
  w->set_data_type(onnx::TensorProto::FLOAT16);
  w->clear_float_data();
  w->add_int32_data(0x3C00), w->add_int32_data(0xC000);
  EXPECT_EQ(constant_of(import(m))->at(0), 1.0);
  EXPECT_EQ(constant_of(import(m))->at(1), -2.0);
  w->set_dims(0, int64_t{1} << 50);
  EXPECT_NE(error_of(m).find("more than 2^40"), std::string::npos) << error_of(m);
  w->set_dims(0, -1);
  EXPECT_NE(error_of(m).find("negative extent"), std::string::npos) << error_of(m);
  w->set_data_type(99);
  EXPECT_NE(error_of(m).find("element type 99"), std::string::npos) << error_of(m);
}

TEST(Onnx, ExternalDataStaysInsideTheFolderAndTheFile) {
  char pattern[] = "/tmp/systole-test-XXXXXX";
  const std::string folder = mkdtemp(pattern);
  const float data[] = {7, 8, 9};
  write_file(folder + "/w.bin", {reinterpret_cast<const char*>(data), sizeof data});
  auto m = adder();
  auto* w = m.mutable_graph()->mutable_initializer(0);
  w->set_data_location(onnx::TensorProto::EXTERNAL);
  auto set = [&](const char* location, const char* offset, const char* length) {
    w->clear_external_data();
    for (const auto& [k, v] : {std::pair{"location", location}, {"offset", offset}, {"length", length}}) {
      auto* e = w->add_external_data();
      e->set_key(k), e->set_value(v);
    }
  };
  set("w.bin", "4", "8");
  EXPECT_EQ(constant_of(import(m, folder))->at(1), 9.0);
  set("w.bin", "8", "8");
  EXPECT_NE(error_of(m, folder).find("ends after the file does"), std::string::npos);
  set("w.bin", "0", "12");
  EXPECT_NE(error_of(m, folder).find("external data of 12 bytes"), std::string::npos);
  set("w.bin", "zero", "8");
  EXPECT_NE(error_of(m, folder).find("a number"), std::string::npos);
  for (const char* escape : {"../w.bin", "/etc/passwd", "a/../../w.bin"}) {
    set(escape, "0", "8");
    EXPECT_NE(error_of(m, folder).find("the model's own folder"), std::string::npos) << escape;
  }
  set("missing.bin", "0", "8");
  EXPECT_NE(error_of(m, folder).find("no such file"), std::string::npos);
  set("w.bin", "0", "8");
  EXPECT_NE(error_of(m).find("the model's own folder"), std::string::npos);  // from memory: no folder
  std::filesystem::remove_all(folder);
}

TEST(Onnx, SymbolicDimensions) {
  auto m = adder();
  m.mutable_graph()->mutable_initializer(0)->set_raw_data(std::string(8, '\0'));
  EXPECT_EQ(import(m).value(import(m).inputs[0]).shape, (Shape{2, 3}));
  EXPECT_NE(error_of(m, "", {}).find("dimensions without a value: n (of input 'x', position 1)"), std::string::npos) << error_of(m, "", {});
  EXPECT_NE(error_of(m, "", {{"n", 3}, {"batch", 2}}).find("names no free dimension"), std::string::npos);
  EXPECT_NE(error_of(m, "", {{"n", 0}}).find("extent 0"), std::string::npos);
  m.mutable_opset_import(0)->set_version(5);
  EXPECT_NE(error_of(m).find("opset 5"), std::string::npos);
}

TEST(Onnx, UnusualStructures) {
  auto m = adder();
  m.mutable_graph()->mutable_initializer(0)->set_raw_data(std::string(8, '\0'));
  auto none = m;
  none.clear_graph();
  EXPECT_NE(error_of(none).find("no graph"), std::string::npos);
  auto functions = m;
  functions.add_functions()->set_name("f");
  EXPECT_NE(error_of(functions).find("functions of its own"), std::string::npos);
  auto silent = m;
  silent.mutable_graph()->clear_output();
  EXPECT_NE(error_of(silent).find("no outputs"), std::string::npos);
}

/// A large initializer stays in the file's memory, whatever its alignment there; what is laid out in a way that no writer uses is read
/// as protobuf says.
TEST(Onnx, LargeInitializersShareTheFile) {
  auto m = adder();
  auto* w = m.mutable_graph()->mutable_initializer(0);
  w->set_dims(0, 2), w->set_dims(1, 3000);
  m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(1)->set_dim_value(3000);
  std::string raw(24000, '\0');
  for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<char>(i * 37 % 119);
  w->set_raw_data(raw);
  const auto holds = [&](const TensorPtr& t) { return t && t->bytes == TensorBytes(std::vector<uint8_t>(raw.begin(), raw.end())); };
  for (size_t shift = 0; shift < 5; ++shift) {
    const std::string text = std::string(shift, ' ') + m.SerializeAsString();
    const Bytes file(nullptr, reinterpret_cast<const uint8_t*>(text.data()) + shift, text.size() - shift);
    Graph g = import_onnx_bytes(file, "t.onnx", "", {});
    ASSERT_TRUE(holds(constant_of(g)));
    EXPECT_TRUE(constant_of(g)->bytes.shared());
    EXPECT_EQ(constant_of(g)->at(5), Tensor(*constant_of(g)).at(5));
    own_constants(g);
    EXPECT_TRUE(holds(constant_of(g)));
    EXPECT_FALSE(constant_of(g)->bytes.shared());
    EXPECT_FALSE(may_name_files(file));
  }
  // A second graph: protobuf merges the two.
  const std::string text = m.SerializeAsString();
  onnx::ModelProto again;
  again.mutable_graph()->set_name("again");
  const std::string both = text + again.SerializeAsString();
  const Graph merged = import_onnx_bytes(both.data(), both.size(), "t.onnx", "", {});
  EXPECT_TRUE(holds(constant_of(merged)));
  EXPECT_EQ(merged.name, "again");
  w->set_raw_data(raw.substr(4));
  EXPECT_NE(error_of(m, "", {}).find("23996 bytes for shape [2,3000]"), std::string::npos) << error_of(m, "", {});
  for (size_t cut : {size_t{10}, text.size() / 2, text.size() - 1}) EXPECT_THROW(import_onnx_bytes(text.data(), cut, "t.onnx", "", {}), Failure);
}

/// What is skimmed is what protobuf reads from the whole, also of damaged files: the same model, or none.
TEST(Onnx, SkimmedAndParsedAgree) {
  auto m = adder();
  for (int i = 0; i < 3; ++i) {
    auto* t = m.mutable_graph()->add_initializer();
    t->set_name("t" + std::to_string(i)), t->set_data_type(onnx::TensorProto::UINT8), t->add_dims(i == 1 ? 9 : 5000);
    t->set_raw_data(std::string(i == 1 ? 9 : 5000, static_cast<char>('a' + i)));
    m.mutable_graph()->add_node()->set_op_type("Identity");
  }
  const std::string whole = m.SerializeAsString();
  std::mt19937 rng(31);
  google::protobuf::SetLogHandler(nullptr);
  int skimmed = 0, read = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    std::string bytes = whole;
    // Where the structure is: outside the long runs of one letter.
    for (int n = static_cast<int>(rng() % 4); n > 0; --n) {
      size_t at = rng() % bytes.size();
      while (at > 0 && bytes[at] == bytes[at - 1]) --at;
      bytes[at] = static_cast<char>(rng() % 3 ? bytes[at] + (rng() % 2 ? 1 : -1) : static_cast<int>(rng()));
    }
    if (rng() % 8 == 0) bytes.resize(rng() % bytes.size());
    if (rng() % 8 == 0) bytes += bytes.substr(0, rng() % 40);
    onnx::ModelProto full, skeleton;
    const bool good = full.ParseFromString(bytes);
    auto s = skim(bytes);
    if (!s) continue;
    ++skimmed;
    ASSERT_EQ(skeleton.ParseFromString(s->skeleton), good) << trial;
    if (!good) continue;
    ++read;
    ASSERT_EQ(s->raw.size(), static_cast<size_t>(skeleton.graph().initializer_size())) << trial;
    for (int i = 0; i < skeleton.graph().initializer_size(); ++i) {
      if (const std::string_view raw = s->raw[static_cast<size_t>(i)]; !raw.empty()) skeleton.mutable_graph()->mutable_initializer(i)->set_raw_data(std::string(raw));
    }
    ASSERT_EQ(skeleton.SerializeAsString(), full.SerializeAsString()) << trial;
  }
  EXPECT_GT(skimmed, 10000);
  EXPECT_GT(read, 5000);
}

TEST(Onnx, InputsThatAreConstants) {
  std::vector<float> x;
  EXPECT_EQ(error_of_constant("x", Tensor::from_floats({1, 2, 3, 4}, {2, 2}), &x), "");
  EXPECT_EQ(x, std::vector<float>({1, 2, 3, 4}));
  EXPECT_EQ(error_of_constant("x", Tensor::from_ints({7}, {}), &x), "");  // a number takes the input's type
  EXPECT_EQ(x, std::vector<float>({7}));
  EXPECT_NE(error_of_constant("x", Tensor::scalar_f32(1e9f), nullptr, onnx::TensorProto::FLOAT16).find("a number that f16 holds"), std::string::npos);
  EXPECT_NE(error_of_constant("x", Tensor::from_ints({300}, {}), nullptr, onnx::TensorProto::INT8).find("a number that i8 holds"), std::string::npos);
  EXPECT_NE(error_of_constant("y", Tensor::scalar_f32(1)).find("--constant y names no input"), std::string::npos);
  EXPECT_NE(error_of_constant("x", Tensor::from_ints({1, 2, 3, 4}, {2, 2})).find("a constant of i64"), std::string::npos);
  EXPECT_NE(error_of_constant("x", Tensor::from_floats({1, 2, 3}, {3, 1})).find("[2,n]"), std::string::npos);
  EXPECT_NE(error_of_constant("x", Tensor::from_floats({1, 2}, {2})).find("[2,n]"), std::string::npos);
}

}  // namespace
}  // namespace systole
