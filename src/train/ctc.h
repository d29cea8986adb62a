// Connectionist temporal classification (Graves et al. 2006): the probability of a label without knowing when each of its parts is said.
#pragma once
#include "train/loss.h"

namespace systole {

/// y [N, T, C], targets [N, S, C] (loss.h); sets losses [N, 1] and gradient.
void ctc_loss(Builder& b, ValueId y, int64_t class_axis, Loss& l);

}  // namespace systole
