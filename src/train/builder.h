// Builds ONNX nodes with shapes known at once: the language in which gradients, losses and updates are written.
#pragma once
#include <string>
#include <vector>

#include "graph/graph.h"

namespace systole {

class Builder {
 public:
  using Attributes = std::vector<std::pair<const char*, Attribute>>;
  /// New nodes go to the end of `graph`; names begin with `prefix`.
  Builder(Graph& graph, std::string prefix) : graph_(graph), prefix_(std::move(prefix)) {}

  Graph& graph() { return graph_; }
  Shape shape(ValueId v) const { return graph_.value(v).shape; }  ///< a copy: values move when nodes are added
  int64_t rank(ValueId v) const { return static_cast<int64_t>(shape(v).size()); }
  /// A node of ONNX opset 18 with one float output of this shape.
  ValueId node(const char* type, std::vector<ValueId> inputs, Shape out, Attributes attributes = {}, DType dtype = DType::kF32);

  ValueId scalar(double v);
  ValueId tensor(Tensor t);
  ValueId ints(const std::vector<int64_t>& v);
  ValueId input(const std::string& name, DType type, const Shape& shape);

  // Elementwise, with broadcasting.
  ValueId binary(const char* type, ValueId a, ValueId b);
  ValueId unary(const char* type, ValueId a) { return node(type, {a}, shape(a)); }
  ValueId add(ValueId a, ValueId b) { return binary("Add", a, b); }
  ValueId sub(ValueId a, ValueId b) { return binary("Sub", a, b); }
  ValueId mul(ValueId a, ValueId b) { return binary("Mul", a, b); }
  ValueId div(ValueId a, ValueId b) { return binary("Div", a, b); }
  ValueId scale(ValueId a, double by) { return by == 1 ? a : mul(a, scalar(by)); }
  ValueId neg(ValueId a) { return unary("Neg", a); }
  /// 1 where a > b, else 0.
  ValueId greater(ValueId a, ValueId b);
  ValueId equal(ValueId a, ValueId b);

  // Layout.
  ValueId reshape(ValueId a, const Shape& to);
  ValueId transpose(ValueId a, const std::vector<int64_t>& perm);
  ValueId slice(ValueId a, const std::vector<int64_t>& axes, const std::vector<int64_t>& starts, const std::vector<int64_t>& ends, const std::vector<int64_t>& steps);
  /// The first elements of each of the axes; the value itself where that is all of it.
  ValueId slice_to(ValueId a, const std::vector<int64_t>& axes, const std::vector<int64_t>& lengths);
  /// `begin` and `end` elements of `value` around each axis.
  ValueId pad(ValueId a, const std::vector<int64_t>& begin, const std::vector<int64_t>& end, double value = 0);
  ValueId concat(const std::vector<ValueId>& parts, int64_t axis);
  ValueId expand(ValueId a, const Shape& to);

  // Reductions, axis by axis, stored in fp32 whatever the policy stores.
  ValueId sum(ValueId a, const std::vector<int64_t>& axes, bool keep) { return reduce("ReduceSum", a, axes, keep); }
  ValueId mean(ValueId a, const std::vector<int64_t>& axes, bool keep);
  ValueId max(ValueId a, const std::vector<int64_t>& axes, bool keep) { return reduce("ReduceMax", a, axes, keep); }
  /// Sums a gradient over the axes along which a value of shape `to` was broadcast.
  ValueId sum_to(ValueId a, const Shape& to);

  ValueId matmul(ValueId a, ValueId b);
  static constexpr int64_t kLongestProduct = 16384;
  /// to + a [M, K] b [K, N], in parts of at most kLongestProduct of K, which a scratchpad holds. The sum is fp32 whatever the policy
  /// stores. Without `to`: the product.
  ValueId add_product(ValueId to, ValueId a, ValueId b);
  ValueId long_matmul(ValueId a, ValueId b) { return add_product(kNoValue, a, b); }

 private:
  ValueId reduce(const char* type, ValueId a, std::vector<int64_t> axes, bool keep);
  std::string name();
  Graph& graph_;
  const std::string prefix_;
  int next_ = 0;
};

}  // namespace systole
