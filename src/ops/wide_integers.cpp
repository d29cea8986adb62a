// BitCast (27), BitwiseNot (18), and the two operators that this compiler makes: systole.Parts, integers as their 16-bit
// parts along a new last axis, least significant first, and systole.Join, its inverse. Both are views: the same bytes.
#include "ops/wide_integers.h"

#include "graph/checks.h"
#include "ops/operator.h"

namespace systole {
namespace {

/// The same bytes as another type; nothing moves.
void view_as(Lowering& l, const Node& node, DType type, const Shape& shape) {
  const ValueId id = l.logical(node.inputs[0]);
  l.define_logical(node.outputs[0], l.emit(node.name, View{}, {id}, type, shape));
}

void lower_bit_cast(Lowering& l, const Node& node) {
  const DType from = l.type(node.inputs[0]), to = static_cast<DType>(std::get<OnnxOp>(node.op).integer("systole_to", static_cast<int64_t>(from)));
  if (bytes_of(from) != bytes_of(to) || from == DType::kF64 || to == DType::kF64) Lowering::unsupported(node, "doubles, or types of other sizes");
  if (l.out.value(l.best(node.inputs[0]).id).type != from) Lowering::unsupported(node, "bits of a value that is stored as " + std::string(to_string(l.out.value(l.best(node.inputs[0]).id).type)));
  view_as(l, node, to, l.shape(node.inputs[0]));
}

void lower_parts(Lowering& l, const Node& node) {
  Shape shape = l.shape(node.inputs[0]);
  const DType type = l.type(node.inputs[0]);
  if (!integer_kind(type).bits || bytes_of(type) < 2) Lowering::malformed(node, std::string("parts of ") + to_string(type), "integers of 16 bits and more");
  shape.push_back(bytes_of(type) / 2);
  view_as(l, node, DType::kU16, shape);
}

void lower_join(Lowering& l, const Node& node) {
  Shape shape = l.shape(node.inputs[0]);
  const DType to = static_cast<DType>(std::get<OnnxOp>(node.op).integer("systole_to", 0));
  if (l.type(node.inputs[0]) != DType::kU16 || shape.empty() || shape.back() * 2 != bytes_of(to)) Lowering::malformed(node, std::string("parts ") + to_string(shape) + " of " + to_string(to), "16-bit parts along the last axis");
  shape.pop_back();
  view_as(l, node, to, shape);
}

bool is_wide(DType t) { return t == DType::kI32 || t == DType::kU32 || t == DType::kI64 || t == DType::kU64; }

ValueId own(Expander& x, const char* type, ValueId v, std::vector<Expander::NamedAttribute> attributes = {}) {
  const ValueId y = x.call(type, {v}, std::move(attributes));
  std::get<OnnxOp>(x.nodes.back().op).domain = "systole";
  return y;
}

/// Parts of a value as floats [.., 1] each, least significant first; of signed integers the last one is signed.
std::vector<ValueId> parts_of(Expander& x, size_t k) {
  const int64_t rank = static_cast<int64_t>(x.shape(k).size()), n = bytes_of(x.type(k)) / 2;
  const ValueId all = x.cast(own(x, "Parts", x.in(k)), DType::kF32);
  std::vector<ValueId> list;
  for (int64_t i = 0; i < n; ++i) list.push_back(x.slice(all, rank, i, i + 1));
  if (integer_kind(x.type(k)).is_signed) {
    const ValueId negative = x.cast(x.call("Greater", {list.back(), x.scalar(32767)}), DType::kF32);
    list.back() = x.sub(list.back(), x.mul(negative, x.scalar(65536)));
  }
  return list;
}

/// 1 where a > b, from the most significant part down.
ValueId greater(Expander& x, const std::vector<ValueId>& a, const std::vector<ValueId>& b) {
  ValueId result = kNoValue, equal = kNoValue;
  for (size_t i = a.size(); i-- > 0;) {
    const ValueId here = x.cast(x.call("Greater", {a[i], b[i]}), DType::kF32), same = x.cast(x.call("Equal", {a[i], b[i]}), DType::kF32);
    result = result == kNoValue ? here : x.add(result, x.mul(equal, here));
    equal = equal == kNoValue ? same : x.mul(equal, same);
  }
  return result;
}

ValueId equal(Expander& x, const std::vector<ValueId>& a, const std::vector<ValueId>& b) {
  ValueId result = kNoValue;
  for (size_t i = 0; i < a.size(); ++i) {
    const ValueId same = x.cast(x.call("Equal", {a[i], b[i]}), DType::kF32);
    result = result == kNoValue ? same : x.mul(result, same);
  }
  return result;
}

/// ~v = 65535 - v in each part (255 - v in bytes).
bool expand_bitwise_not(Expander& x) {
  const DType type = x.type(0);
  const IntegerKind kind = integer_kind(type);
  if (!x.exact() || kind.bits < 8) return false;
  const int64_t most = kind.bits == 8 ? 255 : 65535;
  const DType part = kind.bits == 8 ? DType::kU8 : DType::kU16;
  const ValueId parts = kind.bits == 8 ? x.call("BitCast", {x.in(0)}, {{"systole_to", static_cast<int64_t>(part)}}) : own(x, "Parts", x.in(0));
  const ValueId turned = x.cast(x.sub(x.scalar(static_cast<double>(most)), x.cast(parts, DType::kF32)), part);
  x.result(0, kind.bits == 8 ? x.call("BitCast", {turned}, {{"systole_to", static_cast<int64_t>(type)}}) : own(x, "Join", turned, {{"systole_to", static_cast<int64_t>(type)}}));
  return true;
}

constexpr Operator kOperators[] = {{"", "BitCast", lower_bit_cast, "shapes"}, {"", "BitwiseNot", nullptr, "expands", 1, expand_bitwise_not}, {"systole", "Parts", lower_parts, "shapes"}, {"systole", "Join", lower_join, "shapes"}};

}  // namespace

bool expand_wide_comparison(Expander& x, IntegerComparison which) {
  if (!x.exact() || !is_wide(x.type(0)) || x.type(1) != x.type(0)) return false;
  const auto a = parts_of(x, 0), b = parts_of(x, 1);
  ValueId y = kNoValue;
  switch (which) {
    case IntegerComparison::kEqual: y = equal(x, a, b); break;
    case IntegerComparison::kGreater: y = greater(x, a, b); break;
    case IntegerComparison::kLess: y = greater(x, b, a); break;
    case IntegerComparison::kGreaterOrEqual: y = x.sub(x.scalar(1), greater(x, b, a)); break;
    case IntegerComparison::kLessOrEqual: y = x.sub(x.scalar(1), greater(x, a, b)); break;
  }
  x.result(0, x.reshape(x.cast(y, DType::kBool), broadcast_shapes(x.node, x.shape(0), x.shape(1))));
  return true;
}

bool expand_wide_extreme(Expander& x, bool greatest) {
  // int32 may stand for int64 here (results of ArgMax), and must not lose that: the host's.
  if (!x.exact() || !is_wide(x.type(0)) || x.type(0) == DType::kI32 || x.node.inputs.size() < 2) return false;
  Shape shape = x.shape(0);
  auto best = parts_of(x, 0);
  for (size_t k = 1; k < x.node.inputs.size(); ++k) {
    if (x.type(k) != x.type(0)) return false;
    const auto other = parts_of(x, k);
    const ValueId take = greatest ? greater(x, other, best) : greater(x, best, other);
    for (size_t i = 0; i < best.size(); ++i) best[i] = x.add(best[i], x.mul(take, x.sub(other[i], best[i])));
    shape = broadcast_shapes(x.node, shape, x.shape(k));
  }
  if (integer_kind(x.type(0)).is_signed) {  // back to its bits
    const ValueId negative = x.cast(x.call("Less", {best.back(), x.scalar(0)}), DType::kF32);
    best.back() = x.add(best.back(), x.mul(negative, x.scalar(65536)));
  }
  const ValueId parts = x.cast(x.call("Concat", best, {{"axis", static_cast<int64_t>(shape.size())}}), DType::kU16);
  x.result(0, own(x, "Join", parts, {{"systole_to", static_cast<int64_t>(x.type(0))}}));
  return true;
}

std::span<const Operator> wide_integer_operators() { return kOperators; }

}  // namespace systole
