// BERT, GPT-2 and Llama-style decoders.
#pragma once
#include <span>

#include "architectures/architectures.h"

namespace systole {

std::span<const Architecture> recurrent_architectures();

}  // namespace systole
