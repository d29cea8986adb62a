// Losses: from the model's output and a target to a loss per row and the gradient of the output.
#pragma once
#include <string>
#include <vector>

#include "train/builder.h"

namespace systole {

struct LossOptions {
  int64_t class_axis = 1, labels_each = 1;  ///< labels per sample: of ctc, the longest
};

struct Loss {
  ValueId targets = kNoValue;   ///< input, mostly of the output's shape: numbers, or shares of the classes (train/targets.h)
  ValueId scale = kNoValue;     ///< input [1]: one over the number of rows (or elements) that count
  ValueId losses = kNoValue;    ///< before the scale; their sum x scale is the loss
  ValueId gradient = kNoValue;  ///< of the output
};

/// "cross-entropy" (classes along its axis), "mse", "mae", "huber" (delta 1), "bce" (with logits), "dice" (with logits,
/// per sample: 1 - (2 sum p t + 1) / (sum p + sum t + 1)), "arcface" (outputs are cosines; margin 0.5, scale 30), "triplet" (outputs
/// [batch, embedding], targets class numbers of any range; margin 0.2), "ctc" (outputs [batch, steps, classes], class 0 is the blank; targets [batch, 2 labels + 1,
/// classes]: the label with blanks around and between, one-hot, zeros behind). Fails (kBadInput) otherwise.
Loss build_loss(Builder& b, const std::string& name, ValueId output, LossOptions options = {});
/// Whether targets are class numbers.
bool takes_classes(const std::string& loss);
std::vector<std::string> loss_names();

}  // namespace systole
