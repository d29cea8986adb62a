#include "isa/instruction.h"

namespace systole::isa {

const MicroInfo& micro_info(Micro op) {
  static constexpr MicroInfo kInfo[kMicroCount] = {
      {"mov", 1, 1, 0, "a"}, {"add", 2, 1, 0, "a + b"}, {"sub", 2, 1, 0, "a - b"}, {"mul", 2, 1, 0, "a b"}, {"fma", 3, 1, 0, "fl(a b + c)"},
      {"max", 2, 1, 0, "maximum, NaN wins"}, {"min", 2, 1, 0, "minimum, NaN wins"}, {"abs", 1, 1, 0, "|a|"}, {"neg", 1, 1, 0, "-a"},
      {"floor", 1, 1, 0, "floor"}, {"ceil", 1, 1, 0, "ceiling"}, {"round", 1, 1, 0, "nearest integer, ties to even"}, {"relu", 1, 1, 0, "a < 0 ? +0 : a"},
      {"lt", 2, 1, 0, "a < b ? 1 : 0"}, {"le", 2, 1, 0, "a <= b ? 1 : 0"}, {"eq", 2, 1, 0, "a == b ? 1 : 0"}, {"select", 3, 1, 0, "a != 0 ? b : c"},
      {"sign", 1, 1, 0, "-1, 0 or 1"}, {"exp2", 1, 1, 1, "2^a"}, {"rcp", 1, 1, 1, "1 / a"}, {"rsqrt", 1, 1, 1, "1 / sqrt a"}, {"log2", 1, 1, 1, "log2 a"},
      {"exp", 1, 4, 1, "e^a"}, {"log", 1, 2, 1, "ln a"}, {"sqrt", 1, 5, 1, "sqrt a"}, {"div", 2, 6, 1, "a / b"}, {"tanh", 1, 12, 2, "tanh a"},
      {"sigmoid", 1, 10, 2, "1 / (1 + e^-a)"}, {"erf", 1, 1, 1, "erf a"}, {"pow", 2, 6, 2, "a^b"}, {"exp2s", 2, 1, 1, "2^a 2^-b, b an integer, exactly scaled"}};
  return kInfo[static_cast<int>(op)];
}

Engine engine_of(const Instruction& instruction) {
  return std::visit(Overload{[](const CopyDesc& d) { return d.engine; }, [](const MatrixDesc&) { return Engine::kMatrix; }, [](const VectorDesc&) { return Engine::kVector; },
                             [](const VectorProgram&) { return Engine::kVector; }, [](const Load&) { return Engine::kLoad; }, [](const Store&) { return Engine::kStore; }, [](const Dequantize&) { return Engine::kLoad; },
                             [](const Matrix&) { return Engine::kMatrix; }, [](const Vector&) { return Engine::kVector; }, [](const auto&) { return Engine::kControl; }},
                    instruction);
}

const char* name_of(const Instruction& instruction) {
  return std::visit([](const auto& i) { return std::remove_cvref_t<decltype(i)>::kName; }, instruction);
}

int bytes_of(StreamType type) {
  switch (type) {
    case StreamType::kF32: case StreamType::kI32: return 4;
    case StreamType::kBF16: case StreamType::kF16: case StreamType::kI16: case StreamType::kU16: return 2;
    case StreamType::kNone: return 0;
    default: return 1;
  }
}

const char* to_string(Engine engine) {
  constexpr const char* kNames[] = {"ld", "st", "mx", "vx", "ct"};
  return kNames[static_cast<int>(engine)];
}

}  // namespace systole::isa
