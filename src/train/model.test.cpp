// What a model has to be, and be told, to be trained.
#include "train/model.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "import/writer.h"

namespace systole {
namespace {

/// x [batch, length, 8] by a matrix to [batch, length, 4].
std::string model_of_free_length() {
  ModelWriter w("free", "");
  w.input("x", DType::kF32, {"batch", "length", 8});
  w.constant("w", Tensor(DType::kF32, {8, 4}));
  w.node("MatMul", {"x", "w"}, {}, "y");
  w.output("y", DType::kF32, {"batch", "length", 4});
  const std::string path = ::testing::TempDir() + "/free.onnx";
  w.save(path);
  return path;
}

std::string failure_of(const CompileOptions& o) {
  try {
    TrainableModel(model_of_free_length(), 16, true, {}, o);
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

TEST(TrainableModel, FreeDimensionsTakeTheirValues) {
  CompileOptions o;
  EXPECT_NE(failure_of(o).find("length (of input 'x', position 1)"), std::string::npos);
  o.dims = {{"length", 6}};
  const TrainableModel model(model_of_free_length(), 16, true, {}, o);
  EXPECT_EQ(model.inputs().at(0).shape, Shape({16, 6, 8}));
  EXPECT_EQ(model.logits_shape(), Shape({16, 6, 4}));
  o.dims["depth"] = 3;
  EXPECT_NE(failure_of(o).find("--dim depth=3 names no free dimension"), std::string::npos);
}

}  // namespace
}  // namespace systole
