// The state of legalisation: for each value of the ONNX graph, the primitives' values that hold it, one per axis order.
// Channel-last tensors come out of convolutions and stay channel-last: maps and moves read any order through strides, so
// an ONNX Transpose costs nothing until a consumer insists on one order.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "graph/checks.h"
#include "graph/graph.h"
#include "ops/grouped.h"

namespace systole {

/// Physical dimension i of a form is logical dimension perm[i].
using Perm = std::vector<int>;
Perm identity_perm(size_t rank);
/// [0, 2, 3, ..., 1]
Perm channel_last_perm(size_t rank);
Shape permute(const Shape& shape, const Perm& perm);
Perm invert(const Perm& perm);

/// How float models are computed.
struct FloatPolicy {
  DType store = DType::kBF16;              ///< tensors between layers
  MacFormat format = MacFormat::kBF16;     ///< contraction operands
};

/// Constants in the types and orders that lowerings asked for, by what they were made of. Those that lower the same model share one: the
/// parts of a model with nodes on the host are lowered once to see where they run, and again as programs.
class ConstantForms {
 public:
  /// Axis i of the result is axis perm[i] of `from`; an empty perm keeps the order.
  template <class F>
  TensorPtr get(const TensorPtr& from, DType type, const Perm& perm, F&& make) {
    TensorPtr& made = made_[{from, type, perm}];
    if (!made) made = std::make_shared<const Tensor>(make());
    return made;
  }

 private:
  std::map<std::tuple<TensorPtr, DType, Perm>, TensorPtr> made_;
};

class Lowering {
 public:
  Lowering(const Graph& source, FloatPolicy policy, std::shared_ptr<ConstantForms> forms = nullptr);

  const Graph& source;
  FloatPolicy policy;
  Graph out;  ///< primitives
  bool folding = false;  ///< constants are being evaluated: keep them as inputs

  // --- reading the node being lowered ---
  const Shape& shape(ValueId v) const;
  DType type(ValueId v) const;
  TensorPtr constant(ValueId v) const;  ///< in logical order; null when not constant
  /// The codes of a constant matrix that is made of some; null otherwise.
  const GroupedWeights* grouped(ValueId v) const { return v == kNoValue ? nullptr : find(v).grouped.get(); }
  bool known(ValueId v) const { return find(v).known; }
  /// The constant input k, or kUnsupported naming the node ("input 'shape' is computed at run time").
  TensorPtr need_constant(const Node& node, size_t k, const char* what) const;
  std::vector<int64_t> need_ints(const Node& node, size_t k, const char* what) const { return need_constant(node, k, what)->to_ints(); }
  static bool present(const Node& node, size_t k) { return k < node.inputs.size() && node.inputs[k] != kNoValue; }
  [[noreturn]] static void unsupported(const Node& node, const std::string& why);
  [[noreturn]] static void malformed(const Node& node, const std::string& found, const std::string& expected);

  // --- forms ---
  struct Form {
    Perm perm;
    ValueId id;
  };
  Form best(ValueId v);                            ///< the order in which the value was produced
  ValueId form(ValueId v, const Perm& perm);       ///< in this order, moved if it must be
  ValueId form_as(ValueId v, const Perm& perm, DType type);  ///< and in this type, converted if it must be
  ValueId logical(ValueId v) { return form(v, identity_perm(shape(v).size())); }

  // --- defining results ---
  /// A value that arrives from outside (the model's input, or the host).
  void define_input(ValueId v, DType type, Shape shape);
  void define(ValueId v, Shape logical_shape, const Perm& perm, ValueId id);
  void define_logical(ValueId v, ValueId id) { define(v, out.value(id).shape, identity_perm(out.value(id).shape.size()), id); }
  void define_constant(ValueId v, Tensor tensor);
  void define_grouped(ValueId v, GroupedWeights weights);
  void alias(ValueId v, ValueId of);               ///< v is the same value as `of`

  // --- emitting primitives ---
  ValueId emit(std::string name, Op op, std::vector<ValueId> inputs, DType type, Shape shape);
  ValueId emit_view(std::string name, ValueId of, Shape shape);
  ValueId add_constant(std::string name, Tensor tensor);
  ValueId convert(ValueId id, DType type);
  /// The value in the type that its neighbours in a move have: floats are converted, integer constants where they fit;
  /// otherwise unsupported.
  ValueId in_type_of_move(const Node& node, ValueId id, DType type);
  /// The type that results of float arithmetic are stored in.
  DType store_type(DType onnx_type) const;
  /// That the float results of this node are stored in: the policy's, or fp32 where the node (a sum that goes on in others) asks for it by
  /// the attribute `systole_exact`.
  DType store_type(const Node& node) const;

  /// Lowers source.inputs and constants; then the driver calls each operator; then finish() sets outputs.
  void finish();

 private:
  struct Entry {
    bool known = false;
    DType type = DType::kF32;
    Shape shape;
    TensorPtr constant;                             ///< of grouped weights: made when first asked for
    std::shared_ptr<const GroupedWeights> grouped;
    std::vector<Form> forms;
  };
  /// The source may grow while it is lowered (expansion): entries follow.
  Entry& entry(ValueId v);
  const Entry& find(ValueId v) const { return const_cast<Lowering*>(this)->entry(v); }
  std::deque<Entry> entries_;
  std::map<std::pair<ValueId, DType>, ValueId> converted_;
  std::map<std::tuple<ValueId, Perm, DType>, ValueId> narrowed_;  ///< constants, turned
  std::shared_ptr<ConstantForms> constant_forms_;
};

/// Builds one Map: inputs are added as accesses, operations append to the expression.
class MapBuilder {
 public:
  MapBuilder(Lowering& lowering, std::string name, Shape extents) : lowering_(lowering), name_(std::move(name)) { map.extents = std::move(extents); }

  Map map;
  Operand input(ValueId id, Access access);
  Operand op(isa::Micro micro, std::vector<Operand> operands);
  /// The integer part, towards zero.
  Operand truncated(Operand v);
  /// The low bits of an integer as a type of at most 16 bits reads them: v - 2^b floor((v + 2^(b-1)) 2^-b).
  Operand low_bits(Operand v, DType type);
  /// From here on, operations follow the reduction of the last result over `loops` trailing loops; inputs that they read are asked for again.
  /// More than kLongestReduction elements are reduced in parts, for a row of a map has to fit the scratchpad of any machine.
  Operand reduce(isa::Reduce kind, int64_t loops);
  static constexpr int64_t kLongestReduction = 16384;
  /// Emits; `shape` defaults to the leading extents.
  ValueId finish(DType type);
  ValueId finish_quantized(DType type, int64_t zero_point, int64_t lo, int64_t hi);
  size_t operations() const { return map.pre.size() + map.post.size(); }

 private:
  /// How many of the trailing loops are left for a second reduction; splits one where it has to.
  int64_t outer_loops(int64_t loops);

  Lowering& lowering_;
  std::string name_;
  std::vector<ValueId> inputs_;
  bool reduced_ = false;
};

/// Access of a tensor held in `perm`, broadcast to loops that run over `out_shape` (logical) in `out_perm`.
Access broadcast_access(const Shape& logical, const Perm& perm, const Shape& out_shape, const Perm& out_perm);
/// The plain access: dimension i is loop i.
Access direct_access(size_t rank);

}  // namespace systole
