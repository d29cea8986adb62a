// What follows from a machine description, as text.
#pragma once
#include <string>

#include "machine/machine.h"

namespace systole {

std::string describe(const Machine& machine);

}  // namespace systole
