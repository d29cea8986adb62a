// What one dispatched instruction does, counted: the numbers that energy is a product of.
#pragma once
#include <array>

#include "isa/sequencer.h"
#include "machine/machine.h"
#include "sim/timing/timing.h"

namespace systole {

struct Activity {
  double integer_macs = 0;       ///< multiply-adds of 8- or 16-bit integers
  double bf16_macs = 0;          ///< multiply-adds of bf16 operands; fp16 and fp32 take four and six
  double cell_cycles = 0;        ///< multiplier cells of the array x cycles with operands
  double array_bytes = 0;        ///< read by MX from the scratchpad
  double accumulator_words = 0;  ///< 32 bits, read or written
  double vector_adds = 0, vector_multiplies = 0, vector_compares = 0, vector_lookups = 0;  ///< of single lanes
  double lane_slots = 0;         ///< lanes x issue slots
  double stream_bytes = 0;       ///< read or written by VX and the DMA engines in the scratchpad
  double dma_bytes = 0;
  double dram_bytes = 0, dram_row_misses = 0;
  double instruction_words = 0;  ///< fetched by CT

  Activity& operator+=(const Activity& other);
};

/// Of the i-th dispatched instruction of a timed sequence.
Activity activity_of(const Machine& machine, const isa::Sequence& sequence, const Timing& timing, size_t i);

}  // namespace systole
