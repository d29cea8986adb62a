// Machine code for one vector micro-program over one loop shape, written with Xbyak.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "sim/translate/vector_plan.h"

namespace systole {

/// Where the streams of one call start.
struct VectorPointers {
  std::array<const uint8_t*, isa::kVectorInputs> in{};  ///< in[0] null: a guarded stream outside its image, reads the fill constant
};
struct VectorCall {
  VectorPointers at;                           ///< first element; for kLanesKept unused
  uint8_t* out = nullptr;
  const VectorPointers* positions = nullptr;   ///< kLanesKept: the reduced positions in order
};

class VectorWriter;

class VectorCode {
 public:
  /// Fails (std::exception) where the host refuses executable memory.
  VectorCode(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan);
  ~VectorCode();
  void operator()(const VectorCall& call) const { run_(&call); }

 private:
  std::unique_ptr<VectorWriter> writer_;
  void (*run_)(const VectorCall*) = nullptr;
};

/// Code by what it depends on: the instructions of a program share a few dozen.
class VectorCodes {
 public:
  /// Null where the host refuses executable memory.
  std::shared_ptr<const VectorCode> find(const isa::VectorOp& op, const VectorPlan& plan);

 private:
  std::map<std::string, std::shared_ptr<const VectorCode>> codes_;
};

}  // namespace systole
