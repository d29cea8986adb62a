// Networks of the examples that are trained on the NPU.
#pragma once
#include <span>

#include "architectures/architectures.h"

namespace systole {

std::span<const Architecture> small_architectures();

}  // namespace systole
