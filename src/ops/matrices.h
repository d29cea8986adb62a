// Products with constant matrices along one axis.
#pragma once
#include "ops/expander.h"

namespace systole {

/// v of this shape with its `axis` multiplied by matrix [extent, new extent].
ValueId multiply_axis(Expander& x, ValueId v, const Shape& shape, size_t axis, const Tensor& matrix);

}  // namespace systole
