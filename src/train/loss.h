// Losses: from the model's output and a target to a loss per row and the gradient of the output.
#pragma once
#include <string>
#include <vector>

#include "train/builder.h"

namespace systole {

struct Loss {
  ValueId targets = kNoValue;   ///< input of the output's shape: numbers, or shares of the classes
  ValueId scale = kNoValue;     ///< input [1]: one over the number of rows (or elements) that count
  ValueId losses = kNoValue;    ///< before the scale; their sum x scale is the loss
  ValueId gradient = kNoValue;  ///< of the output
};

/// "cross-entropy" (classes along `class_axis`), "mse", "mae", "huber" (delta 1), "bce" (with logits), "dice" (with logits,
/// per sample: 1 - (2 sum p t + 1) / (sum p + sum t + 1)), "arcface" (outputs are cosines; margin 0.5, scale 30), "triplet" (outputs
/// [batch, embedding], targets class numbers of any range; margin 0.2). Fails (kBadInput) otherwise.
Loss build_loss(Builder& b, const std::string& name, ValueId output, int64_t class_axis = 1);
/// Whether targets are class numbers.
bool takes_classes(const std::string& loss);
std::vector<std::string> loss_names();

}  // namespace systole
