// Quantisation-aware training: a QDQ model as one that learns. Its codes become float weights, its pairs of QuantizeLinear and
// DequantizeLinear arithmetic that rounds and lets gradients straight through (Jacob et al. 2018, section 3).
#pragma once
#include <map>

#include "train/builder.h"

namespace systole {

/// How the file stores a weight that learns as floats.
struct StoredCodes {
  ValueId codes = kNoValue;    ///< in the file's graph, integers
  Tensor scale;                ///< f32, one per element of the weight
  int64_t lo = 0, hi = 0;      ///< of code - zero
  int64_t zero = 0;
  bool rounds = true;          ///< false: biases of 32 bits, which rounding hardly changes
};

/// Rewrites the graph; results by the float constants that stand for codes. Fails (kUnsupported) on quantisation that it does not
/// know: operators between Q and DQ, scales computed at run time. Nothing happens to a float model.
std::map<ValueId, StoredCodes> read_quantised(Graph& graph);

/// clamp(round(v / scale)) scale; gradients pass inside the clamp. `scale` broadcasts to v.
ValueId fake_quantise(Builder& b, ValueId v, ValueId scale, int64_t lo, int64_t hi);

/// Codes of trained weights.
Tensor codes_of(const Tensor& weights, const StoredCodes& stored, DType type);

}  // namespace systole
