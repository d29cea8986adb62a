// Fixed models, fixed bits: program text, cycles and outputs must not move unless a commit says why. To accept a change:
// SYSTOLE_UPDATE_GOLDEN=1 build/release/tests/golden, and name the reason in the commit that changes golden.txt.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/file.h"
#include "runtime/inputs.h"
#include "systole/systole.h"

namespace systole {
namespace {

uint64_t hash_of(const std::vector<Tensor>& tensors) {
  std::string all;
  for (const Tensor& t : tensors) all.append(t.bytes.begin(), t.bytes.end());
  return content_hash(all);
}

TEST(Golden, ProgramsCyclesAndResults) {
  std::string found;
  const struct { const char* name; int64_t size; } kModels[] = {{"resnet8", 32}, {"ds-cnn", 49}, {"unet", 64}, {"mobilenetv2", 96}, {"resnet50-qdq", 64}};
  for (const auto& m : kModels) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/golden-" + m.name + ".onnx";
    write_architecture(m.name, path, 1, m.size).value();
    for (const auto& npu : {"nano", "edge", "server"}) {
      CompileOptions o;
      o.npu = npu;
      const Compiled model = compile(path, o).value().model;
      const auto outputs = run(model, {random_input(inputs_of(model)[0], 1)}).value();
      found += fmt::format("{} {} program {:016x} cycles {} outputs {:016x}\n", m.name, npu, content_hash(disassemble_program(model).value()), profile(model).value().cycles, hash_of(outputs));
    }
  }
  const std::string file = std::string(SYSTOLE_TESTS) + "/golden.txt";
  if (std::getenv("SYSTOLE_UPDATE_GOLDEN")) write_file(file, found);
  std::ifstream in(file);
  std::stringstream expected;
  expected << in.rdbuf();
  EXPECT_EQ(found, expected.str()) << "programs, cycles or results moved: see the head of tests/golden.cpp";
}

}  // namespace
}  // namespace systole
