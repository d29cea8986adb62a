// Three spatial dimensions written as two: a convolution sums planes, a pool is a pool of planes and one along depth (the
// divisors of an average separate).
#pragma once
#include "ops/expander.h"

namespace systole {

bool expand_conv_3d(Expander& x);
bool expand_pool_3d(Expander& x);
/// Of three spatial dimensions and more.
bool expand_global_pool_3d(Expander& x);

}  // namespace systole
