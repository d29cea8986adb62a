// Cycles of resolved instructions on a machine: geometry from the descriptor, formulas from cost.h.
#pragma once
#include "isa/geometry.h"
#include "isa/sequencer.h"
#include "machine/cost.h"

namespace systole {

int64_t cycles_of(const Machine& machine, const isa::MatrixOp& op);
int64_t cycles_of(const Machine& machine, const isa::VectorOp& op);
/// Cycles a copy occupies the scratchpad side of its engine: words of dma.bytes_per_cycle on the slower side.
int64_t port_cycles(const Machine& machine, const isa::CopyOp& op);
/// The wider side of the two: codes come in at the width of the port, floats leave at it.
int64_t port_cycles(const Machine& machine, const isa::DequantizeOp& op);
/// How this machine's DMA walks a side of a copy.
isa::CopyWalk walk_of(const Machine& machine, const isa::CopyOp& op, bool target);
MatrixTraffic traffic_of(const Machine& machine, const isa::MatrixOp& op);
/// Multiply-adds of a contraction.
int64_t macs_of(const isa::MatrixOp& op);

}  // namespace systole
