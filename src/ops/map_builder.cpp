// Maps as lowerings write them: inputs, operations, a reduction, and what follows it.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "ops/lowering.h"

namespace systole {

Operand MapBuilder::input(ValueId id, Access access) {
  const auto constant = lowering_.out.value(id).constant;
  if (constant && constant->type == DType::kF64) id = lowering_.convert(id, DType::kF32);
  const DType type = lowering_.out.value(id).type;
  if (type == DType::kF64 || (constant && integer_kind(type).bits > 32)) fail(ErrorCode::kUnsupported, "node '" + name_ + "'", std::string("arithmetic on ") + to_string(type) + " values", "a type that the vector engine reads");
  if (!is_float(type) && !is_small_integer(type) && type != DType::kI32 && type != DType::kBool && !constant) {
    fail(ErrorCode::kUnsupported, "node '" + name_ + "'", std::string("arithmetic on ") + to_string(type) + " values that are only known at run time", "float, int8, uint8 or int32 values");
  }
  if (!lowering_.folding && constant && constant->count() == 1 && access.zero_point == 0 && is_float(constant->type)) return Operand::value(static_cast<float>(constant->at(0)));
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i] == id && map.accesses[i] == access) return Operand::input(static_cast<int>(i));
  }
  inputs_.push_back(id);
  map.accesses.push_back(std::move(access));
  SYSTOLE_CHECK(inputs_.size() <= isa::kVectorInputs, name_);
  return Operand::input(static_cast<int>(inputs_.size() - 1));
}

/// Whether dividing by v is multiplying by 1 / v, whatever is divided.
static bool is_power_of_two(float v) {
  int exponent = 0;
  return std::isfinite(v) && std::fabs(std::frexp(v, &exponent)) == 0.5f && std::isnormal(1 / v);
}

Operand MapBuilder::op(isa::Micro micro, std::vector<Operand> operands) {
  if (micro == isa::Micro::kDivide && operands[1].kind == Operand::Kind::kConstant && is_power_of_two(operands[1].constant)) micro = isa::Micro::kMul, operands[1].constant = 1 / operands[1].constant;
  auto& list = reduced_ ? map.post : map.pre;
  list.push_back({micro, std::move(operands)});
  return Operand::result(static_cast<int>(list.size() - 1));
}

Operand MapBuilder::truncated(Operand v) {
  return op(isa::Micro::kSelect, {op(isa::Micro::kLess, {v, Operand::value(0)}), op(isa::Micro::kCeil, {v}), op(isa::Micro::kFloor, {v})});
}

Operand MapBuilder::low_bits(Operand v, DType type) {
  const IntegerKind kind = integer_kind(type);
  const float range = std::exp2(static_cast<float>(kind.bits)), low = kind.is_signed ? range / 2 : 0;
  const Operand turns = op(isa::Micro::kFloor, {op(isa::Micro::kMul, {op(isa::Micro::kAdd, {v, Operand::value(low)}), Operand::value(1 / range)})});
  return op(isa::Micro::kSub, {v, op(isa::Micro::kMul, {turns, Operand::value(range)})});
}

/// Loop `l` of the map as two, the inner one of `inner` iterations.
static void split_loop(Map& map, size_t l, int64_t inner) {
  map.extents[l] /= inner;
  map.extents.insert(map.extents.begin() + static_cast<long>(l) + 1, inner);
  for (Access& a : map.accesses) {
    for (IndexExpr& e : a.index) {
      std::vector<IndexTerm> terms;
      for (const IndexTerm& t : e.terms) {
        const auto loop = static_cast<size_t>(t.loop);
        if (loop == l) terms.push_back({t.loop, t.coefficient * inner});
        terms.push_back({loop < l ? t.loop : t.loop + 1, t.coefficient});
      }
      e.terms = std::move(terms);
    }
  }
}

int64_t MapBuilder::outer_loops(int64_t loops) {
  const size_t first = map.extents.size() - static_cast<size_t>(loops);
  int64_t inner = 1;
  size_t l = map.extents.size();
  while (l > first && inner * map.extents[l - 1] <= kLongestReduction) inner *= map.extents[--l];
  if (l == first) return 0;
  // The largest part of the loop that makes it too long.
  for (int64_t part = std::min(kLongestReduction / inner, map.extents[l - 1] / 2); part > 1; --part) {
    if (map.extents[l - 1] % part == 0) return split_loop(map, l - 1, part), static_cast<int64_t>(l - first);
  }
  return inner > 1 ? static_cast<int64_t>(l - first) : 0;  // where there is none, all of it
}

Operand MapBuilder::reduce(isa::Reduce kind, int64_t loops) {
  const int64_t kept = static_cast<int64_t>(map.extents.size()) - loops;
  if (const int64_t outer = outer_loops(loops)) {
    Map parts = std::move(map);
    parts.reduce = kind, parts.reduced = static_cast<int64_t>(parts.extents.size()) - kept - outer;
    const Shape shape(parts.extents.begin(), parts.extents.begin() + parts.output_rank());
    const ValueId made = lowering_.emit(name_ + ".parts", std::move(parts), std::exchange(inputs_, {}), DType::kF32, shape);
    map = {};
    map.extents = shape;
    op(isa::Micro::kMove, {input(made, direct_access(shape.size()))});
    return reduce(kind, outer);
  }
  map.reduce = kind, map.reduced = loops;
  reduced_ = true;
  return Operand::reduced();
}

/// Types that the vector engine writes.
static void require_writable(const std::string& name, DType type) {
  if (type == DType::kF64 || (!is_float(type) && !is_small_integer(type) && type != DType::kI32 && type != DType::kBool)) {
    fail(ErrorCode::kUnsupported, "node '" + name + "'", std::string("results of type ") + to_string(type), "float, int8, uint8, int32 or bool results");
  }
}

ValueId MapBuilder::finish(DType type) {
  require_writable(name_, type);
  const IntegerKind kind = integer_kind(type);
  if (kind.bits && kind.bits <= 8) map.out_lo = kind.is_signed ? -(1 << (kind.bits - 1)) : 0, map.out_hi = (1 << (kind.bits - (kind.is_signed ? 1 : 0))) - 1;
  if (type == DType::kBool) map.out_lo = 0, map.out_hi = 1;
  if (operations() > isa::kMicroOps) fail(ErrorCode::kUnsupported, "node '" + name_ + "'", std::to_string(operations()) + " operations per element", "at most " + std::to_string(isa::kMicroOps));
  Shape shape(map.extents.begin(), map.extents.begin() + map.output_rank());
  // A map that reads nothing cannot be placed; callers fold constants before they get here.
  if (inputs_.empty()) fail(ErrorCode::kUnsupported, "node '" + name_ + "'", "arithmetic on constants alone", "an input");
  return lowering_.emit(name_, std::move(map), inputs_, type, std::move(shape));
}

ValueId MapBuilder::finish_quantized(DType type, int64_t zero_point, int64_t lo, int64_t hi) {
  map.out_zero = zero_point, map.out_lo = lo, map.out_hi = hi;
  Shape shape(map.extents.begin(), map.extents.begin() + map.output_rank());
  return lowering_.emit(name_, std::move(map), inputs_, type, std::move(shape));
}

Access direct_access(size_t rank) {
  Access a;
  for (size_t d = 0; d < rank; ++d) a.index.push_back({0, {{static_cast<int>(d), 1}}});
  return a;
}

Access broadcast_access(const Shape& logical, const Perm& perm, const Shape& out_shape, const Perm& out_perm) {
  const Perm loop_of = invert(out_perm);
  const size_t shift = out_shape.size() - logical.size();
  Access a;
  for (int d : perm) {
    IndexExpr e;
    const size_t out_dim = shift + static_cast<size_t>(d);
    if (logical[static_cast<size_t>(d)] == out_shape[out_dim]) e.terms.push_back({loop_of[out_dim], 1});
    a.index.push_back(std::move(e));
  }
  return a;
}

}  // namespace systole
