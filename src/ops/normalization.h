// Expansions of operators whose usual form another file lowers.
#pragma once
#include "ops/expander.h"

namespace systole {

bool expand_batch_norm(Expander& x);
bool expand_dropout(Expander& x);

}  // namespace systole
