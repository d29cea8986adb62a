// One function per kind of step.
#pragma once
#include "codegen/emitter.h"
#include "isa/sequencer.h"

namespace systole {

/// A map that reads tensors only.
void emit_map(Emitter& e, const Node& node);
/// A move: copies wherever source and destination lie; by ST from the scratchpad to DRAM, else by LD.
void emit_move(Emitter& e, const Node& node);
/// A contract, the map that drains it, and one of what the drain makes if `then` is given. Fails (kResource) when the machine is too small for
/// one pixel of it.
void emit_contract(Emitter& e, const Node& contract, const Node& drain, const Node* then);

/// What `dequantize` reads for a contract with group_rows, in panels of `panel` columns.
isa::WeightRecord weight_record(const Graph& graph, const Node& contract, int64_t panel);

}  // namespace systole
