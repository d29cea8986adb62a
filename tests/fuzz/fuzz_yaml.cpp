// Machine descriptions from arbitrary text.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "machine/describe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace systole;
  try {
    describe(parse_machine({reinterpret_cast<const char*>(data), size}, "fuzz"));
  } catch (const Failure&) {
  }
  return 0;
}
