#include "ops/grouped.h"

#include <algorithm>

#include "base/parallel.h"
#include "numerics/formats.h"
#include "numerics/requantize.h"

namespace systole {
namespace {

Tensor turned(const Tensor& t) { return transpose(t, {1, 0}); }

/// fp16 where every scale is one.
Tensor shortest(const Tensor& scales) {
  Tensor half(DType::kF16, scales.shape);
  for (int64_t i = 0; i < scales.count(); ++i) {
    const float v = static_cast<float>(scales.at(i));
    const uint16_t h = f32_to_f16(v);
    if (!(f16_to_f32(h) == v)) return scales;
    half.data<uint16_t>()[i] = h;
  }
  return half;
}

}  // namespace

std::optional<GroupedWeights> grouped_weights(const OnnxOp& op, const TensorPtr& codes, const TensorPtr& scales, const TensorPtr& zeros) {
  const int bits = integer_kind(codes->type).bits;
  if (codes->shape.size() != 2 || bits < 2 || bits > 8 || codes->type == DType::kBool || scales->type != DType::kF32 || codes->count() == 0) return {};
  if (zeros && (zeros->type != codes->type || zeros->shape != scales->shape)) return {};
  if (op.integer("output_dtype", 1) != 1) return {};
  const Shape& s = codes->shape;
  const int64_t given = op.integer("axis", 1), block = op.integer("block_size", 0);
  const size_t axis = given == 0 || given == -2 ? 0 : 1;
  GroupedWeights g{codes, nullptr, nullptr, s[0], s[1]};
  Shape groups = {1, 1};
  if (scales->count() == 1) {
  } else if (scales->shape.size() == 1 && scales->count() == s[axis]) {
    (axis == 0 ? g.rows : g.columns) = 1, groups[axis] = s[axis];
  } else {
    if (block < 1 || scales->shape.size() != 2 || s[axis] % block || scales->shape[axis] != s[axis] / block || scales->shape[1 - axis] != s[1 - axis]) return {};
    g.rows = axis == 0 ? block : 1, g.columns = axis == 1 ? block : 1, groups = scales->shape;
  }
  Tensor scale = shortest(*scales), zero(codes->type, groups);
  scale.shape = groups;
  for (int64_t i = 0; zeros && i < zero.count(); ++i) zero.set_int(i, zeros->int_at(i));
  g.scales = std::make_shared<const Tensor>(std::move(scale)), g.zeros = std::make_shared<const Tensor>(std::move(zero));
  return g;
}

Tensor GroupedWeights::to_floats() const {
  Tensor t(DType::kF32, codes->shape);
  const int64_t c = codes->shape[1], across = scales->shape[1];
  const std::vector<float> scale = scales->to_floats();
  parallel_for(codes->shape[0], 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < c; ++i) {
        const int64_t at = r / rows * across + i / columns;
        t.data<float>()[r * c + i] = dequantize(codes->int_at(r * c + i), zeros->int_at(at), scale[static_cast<size_t>(at)]);
      }
    }
  });
  return t;
}

GroupedWeights GroupedWeights::transposed() const {
  auto turn = [](const TensorPtr& t) { return std::make_shared<const Tensor>(turned(*t)); };
  return {turn(codes), turn(scales), turn(zeros), columns, rows};
}

GroupedWeights GroupedWeights::per_column() const {
  if (columns == 1) return *this;
  auto spread = [&](const TensorPtr& t) {
    Tensor wide(t->type, {t->shape[0], codes->shape[1]});
    for (int64_t i = 0; i < wide.count(); ++i) wide.set(i, t->at(i / codes->shape[1] * t->shape[1] + i % codes->shape[1] / columns));
    return std::make_shared<const Tensor>(std::move(wide));
  };
  return {codes, spread(scales), spread(zeros), rows, 1};
}

}  // namespace systole
