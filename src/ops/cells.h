// LSTM, GRU and RNN in full generality, written as elementary operators.
#pragma once
#include "ops/expander.h"

namespace systole {

/// False for the forms that recurrent.cpp lowers directly (default activations, constant weights, full sequences).
bool expand_recurrent(Expander& x);

/// Whether activations that the node names are those it would have without.
bool default_activations(const OnnxOp& op);

}  // namespace systole
