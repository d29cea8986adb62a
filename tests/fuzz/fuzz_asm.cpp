// The assembler on arbitrary text; what it accepts must survive a round trip, execution order and bounds checks.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "isa/codec.h"
#include "isa/sequencer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace systole;
  try {
    const auto code = isa::assemble({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (isa::encode_all(isa::assemble(isa::disassemble_all(code), "again")) != isa::encode_all(code)) std::abort();
    isa::sequence(code, "fuzz", {}, 100000);
  } catch (const Failure&) {
  }
  return 0;
}
