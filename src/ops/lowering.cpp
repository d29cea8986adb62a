#include "ops/lowering.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "numerics/formats.h"

namespace systole {

Perm identity_perm(size_t rank) {
  Perm p(rank);
  std::iota(p.begin(), p.end(), 0);
  return p;
}

Perm channel_last_perm(size_t rank) {
  Perm p = {0};
  for (size_t i = 2; i < rank; ++i) p.push_back(static_cast<int>(i));
  p.push_back(1);
  return p;
}

Shape permute(const Shape& shape, const Perm& perm) {
  Shape out;
  for (int d : perm) out.push_back(shape[static_cast<size_t>(d)]);
  return out;
}

Perm invert(const Perm& perm) {
  Perm inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) inverse[static_cast<size_t>(perm[i])] = static_cast<int>(i);
  return inverse;
}

namespace {
/// Two orders of one shape that only differ in where unit dimensions stand hold the same bytes.
bool same_bytes(const Shape& shape, const Perm& a, const Perm& b) {
  auto significant = [&](const Perm& p) {
    Perm s;
    std::copy_if(p.begin(), p.end(), std::back_inserter(s), [&](int d) { return shape[static_cast<size_t>(d)] != 1; });
    return s;
  };
  return significant(a) == significant(b);
}
}  // namespace

Lowering::Lowering(const Graph& graph, FloatPolicy float_policy, std::shared_ptr<ConstantForms> forms) : source(graph), policy(float_policy), constant_forms_(forms ? std::move(forms) : std::make_shared<ConstantForms>()) {
  out.name = graph.name;
  for (ValueId v : graph.inputs) {
    const Value& value = graph.value(v);
    if (value.shape_known) define_input(v, value.type, value.shape);
  }
}

Lowering::Entry& Lowering::entry(ValueId v) {
  while (entries_.size() <= static_cast<size_t>(v)) {
    Entry& e = entries_.emplace_back();
    const TensorPtr& constant = source.values.at(entries_.size() - 1).constant;
    if (constant) e.known = true, e.constant = constant, e.type = constant->type, e.shape = constant->shape;
  }
  return entries_[static_cast<size_t>(v)];
}

/// Doubles cross as fp32: no engine computes with them.
void Lowering::define_input(ValueId v, DType type, Shape shape) {
  const ValueId id = out.add_value(source.value(v).name, type == DType::kF64 ? DType::kF32 : type, std::move(shape));
  out.inputs.push_back(id);
  define_logical(v, id);
}

const Shape& Lowering::shape(ValueId v) const { return find(v).shape; }
DType Lowering::type(ValueId v) const { return find(v).type; }
TensorPtr Lowering::constant(ValueId v) const {
  if (v == kNoValue) return nullptr;
  Entry& e = const_cast<Lowering*>(this)->entry(v);
  if (!e.constant && e.grouped) e.constant = std::make_shared<const Tensor>(e.grouped->to_floats());
  return e.constant;
}

TensorPtr Lowering::need_constant(const Node& node, size_t k, const char* what) const {
  if (!present(node, k)) malformed(node, std::string("no input '") + what + "'", "the input that the operator's schema asks for");
  TensorPtr t = constant(node.inputs[k]);
  if (!t) unsupported(node, std::string("input '") + what + "' is computed at run time; it must be a constant");
  return t;
}

void Lowering::unsupported(const Node& node, const std::string& why) { systole::unsupported(node, why); }
void Lowering::malformed(const Node& node, const std::string& found, const std::string& expected) { systole::malformed(node, found, expected); }

Lowering::Form Lowering::best(ValueId v) {
  Entry& e = entry(v);
  SYSTOLE_CHECK(e.known, source.value(v).name);
  if (e.forms.empty()) {
    e.forms.push_back({identity_perm(e.shape.size()), out.add_constant(source.value(v).name, constant(v))});
  }
  return e.forms.front();
}

namespace {
/// Axes of the new form in terms of the old form's physical dimensions.
Perm relative(const Perm& from, const Perm& to) {
  const Perm inverse = invert(from);
  Perm turn;
  for (int d : to) turn.push_back(inverse[static_cast<size_t>(d)]);
  return turn;
}
}  // namespace

ValueId Lowering::form(ValueId v, const Perm& perm) {
  const Form from = best(v);
  Entry& e = entry(v);
  for (const Form& f : e.forms) {
    if (f.perm == perm) return f.id;
  }
  const Shape physical = permute(e.shape, perm);
  const std::string name = out.value(from.id).name;
  ValueId id;
  const Perm turn = relative(from.perm, perm);
  if (const TensorPtr t = out.value(from.id).constant) {
    id = add_constant(name, transpose(*t, turn));
  } else if (same_bytes(e.shape, from.perm, perm)) {
    id = emit_view(name, from.id, physical);
  } else {
    const auto strides = row_major_strides(out.value(from.id).shape);
    CopyRegion r{0, physical, 0, 0, {}, row_major_strides(physical)};
    for (int d : turn) r.src_strides.push_back(strides[static_cast<size_t>(d)]);
    id = emit(name + ".transposed", Move{{r}, 0}, {from.id}, out.value(from.id).type, physical);
  }
  e.forms.push_back({perm, id});
  return id;
}

namespace {
/// `later`: floats may stay what they are until somebody reads the result.
Tensor converted_constant(const Value& value, DType type, bool later) {
  const Tensor& from = *value.constant;
  const int64_t n = from.count();
  if (from.type == DType::kF32 && type == DType::kBF16 && !later) {
    return filled(type, from.shape, [&](uint8_t* to) {
      parallel_for(n, 1 << 18, [&](int64_t begin, int64_t end) { f32_to_bf16(from.bytes.data() + 4 * begin, reinterpret_cast<uint16_t*>(to) + begin, end - begin); });
    });
  }
  if (from.type == DType::kF32 && type == DType::kBF16) {
    Tensor t;
    t.type = type, t.shape = from.shape;
    t.bytes = std::make_shared<const NarrowedLater>(Bytes(value.constant, from.bytes.data(), from.bytes.size()));
    return t;
  }
  Tensor t(type, from.shape);
  for (int64_t i = 0; i < n; ++i) {
    const double v = from.at(i);
    t.set(i, v);
    if (from.type == DType::kF64 && !std::isinf(v) && std::isinf(t.at(i))) fail(ErrorCode::kUnsupported, "constant '" + value.name + "'", "a double beyond the range of " + std::string(to_string(type)), "values of at most 3.4e38");
  }
  return t;
}
}  // namespace

ValueId Lowering::form_as(ValueId v, const Perm& perm, DType type) {
  const Form from = best(v);
  const auto& held = out.value(from.id);
  if (!held.constant || from.perm == perm || bytes_of(type) >= bytes_of(held.type)) return convert(form(v, perm), type);
  // A constant is narrowed before it is turned: fewer bytes to move.
  const auto [it, added] = narrowed_.try_emplace({v, perm, type}, kNoValue);
  if (added) {
    const Perm turn = relative(from.perm, perm);
    const Value value = held;
    it->second = out.add_constant(value.name, constant_forms_->get(value.constant, type, turn, [&] { return transpose(converted_constant(value, type, false), turn); }));
  }
  return it->second;
}

ValueId Lowering::convert(ValueId id, DType type) {
  const Value value = out.value(id);
  if (value.type == type) return id;
  const auto [it, added] = converted_.try_emplace({id, type}, kNoValue);
  if (!added) return it->second;
  ValueId result;
  if (value.constant) {
    result = out.add_constant(value.name, constant_forms_->get(value.constant, type, {}, [&] { return converted_constant(value, type, true); }));
  } else {
    MapBuilder m(*this, value.name + "." + to_string(type), value.shape);
    m.op(isa::Micro::kMove, {m.input(id, direct_access(value.shape.size()))});
    result = m.finish(type);
  }
  converted_[{id, type}] = result;
  return result;
}

ValueId Lowering::in_type_of_move(const Node& node, ValueId id, DType type) {
  const Value value = out.value(id);
  if (value.type == type || (is_float(value.type) && is_float(type))) return convert(id, type);
  if (!value.constant || !integer_kind(value.type).bits || !integer_kind(type).bits) unsupported(node, std::string("inputs of the types ") + to_string(type) + " and " + to_string(value.type));
  Tensor t(type, value.shape);
  for (int64_t i = 0, n = t.count(); i < n; ++i) {
    t.set_int(i, value.constant->int_at(i));
    if (t.int_at(i) != value.constant->int_at(i)) unsupported(node, std::to_string(value.constant->int_at(i)) + " beside values of type " + to_string(type));
  }
  return add_constant(value.name, std::move(t));
}

DType Lowering::store_type(DType onnx_type) const { return is_float(onnx_type) ? policy.store : onnx_type; }

DType Lowering::store_type(const Node& node) const { return std::get<OnnxOp>(node.op).integer("systole_exact", 0) ? DType::kF32 : policy.store; }

void Lowering::define(ValueId v, Shape logical_shape, const Perm& perm, ValueId id) {
  if (v == kNoValue) return;
  Entry& e = entry(v);
  SYSTOLE_CHECK(permute(logical_shape, perm) == out.value(id).shape, source.value(v).name + to_string(logical_shape) + to_string(out.value(id).shape));
  e.known = true, e.type = out.value(id).type, e.shape = std::move(logical_shape);
  e.constant = nullptr;
  if (const TensorPtr t = out.value(id).constant) e.constant = perm == identity_perm(perm.size()) ? t : std::make_shared<const Tensor>(transpose(*t, invert(perm)));
  e.forms = {{perm, id}};
}

void Lowering::define_constant(ValueId v, Tensor tensor) {
  if (v == kNoValue) return;
  Entry& e = entry(v);
  e.known = true, e.type = tensor.type, e.shape = tensor.shape;
  e.constant = std::make_shared<Tensor>(std::move(tensor));
  e.forms.clear();
}

void Lowering::define_grouped(ValueId v, GroupedWeights weights) {
  Entry& e = entry(v);
  e.known = true, e.type = DType::kF32, e.shape = weights.codes->shape, e.constant = nullptr;
  e.grouped = std::make_shared<const GroupedWeights>(std::move(weights));
  e.forms.clear();
}

void Lowering::alias(ValueId v, ValueId of) {
  if (v == kNoValue) return;
  if (entry(of).forms.empty()) best(of);
  entry(v) = entry(of);
}

ValueId Lowering::emit(std::string name, Op op, std::vector<ValueId> inputs, DType type, Shape shape) {
  const ValueId id = out.add_value(name, type, std::move(shape));
  out.nodes.push_back({name, std::move(op), std::move(inputs), {id}});
  return id;
}

ValueId Lowering::emit_view(std::string name, ValueId of, Shape shape) {
  if (out.value(of).shape == shape) return of;
  if (const TensorPtr t = out.value(of).constant) return add_constant(name, reshaped(t, std::move(shape)));
  return emit(name, View{}, {of}, out.value(of).type, std::move(shape));
}

ValueId Lowering::add_constant(std::string name, Tensor tensor) { return out.add_constant(name, std::make_shared<Tensor>(std::move(tensor))); }

void Lowering::finish() {
  for (ValueId v : source.outputs) {
    const DType declared = source.value(v).type;
    ValueId id = logical(v);
    if (is_float(declared) && is_float(out.value(id).type)) id = convert(id, declared == DType::kF64 ? DType::kF32 : declared);
    // An output needs memory of its own: not an input, a constant, or another output.
    const bool taken = out.value(id).constant || std::count(out.inputs.begin(), out.inputs.end(), id) || std::count(out.outputs.begin(), out.outputs.end(), id);
    if (taken) {
      const Shape s = out.value(id).shape;
      const auto strides = row_major_strides(s);
      id = emit(source.value(v).name, Move{{{0, s, 0, 0, strides, strides}}, 0}, {id}, out.value(id).type, s);
    }
    out.value(id).name = source.value(v).name;
    out.outputs.push_back(id);
  }
  prune_and_sort(out);
}

}  // namespace systole
