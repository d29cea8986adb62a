// The program loader, the sequencer, the race checker and the timing model on arbitrary bytes.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "isa/program.h"
#include "isa/sequencer.h"
#include "sim/check/race_checker.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace systole;
  static const Machine machine = load_machine("edge");
  try {
    const isa::Program program = isa::deserialise(Bytes(nullptr, data, size), "fuzz");
    isa::sequence(program.code, "fuzz", {}, 100000);
    check_races(program, machine);
  } catch (const Failure&) {
  }
  return 0;
}
