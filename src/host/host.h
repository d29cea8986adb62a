// Operators of the host: what ONNX expresses and an NPU leaves to the processor beside it (strings, sequences, control
// flow, results whose shapes depend on data), and the arithmetic on constants that the compiler does itself. Slow and
// obvious: one function per operator over dense tensors, integers exact, floats computed in double and rounded once.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "graph/checks.h"
#include "graph/graph.h"

namespace systole {

/// What a graph's value is at run time: a tensor, a sequence, or an optional that holds nothing.
struct HostValue {
  TensorPtr tensor;
  std::shared_ptr<const std::vector<HostValue>> sequence;

  HostValue() = default;
  HostValue(TensorPtr t) : tensor(std::move(t)) {}
  HostValue(Tensor t) : tensor(std::make_shared<const Tensor>(std::move(t))) {}
  static HostValue list(std::vector<HostValue> items);
  bool empty() const { return !tensor && !sequence; }
};

/// Runs a subgraph on values for all its inputs, captures included.
using GraphRunner = std::function<std::vector<HostValue>(const Graph&, const std::vector<HostValue>&)>;

/// One execution of one node.
struct HostCall {
  const Node& node;
  const std::vector<HostValue>& inputs;  ///< by position; absent ones are empty
  const GraphRunner& run_graph;
  std::vector<HostValue> outputs;

  HostCall(const Node& n, const std::vector<HostValue>& in, const GraphRunner& runner) : node(n), inputs(in), run_graph(runner), outputs(n.outputs.size()) {}
  const OnnxOp& op() const { return std::get<OnnxOp>(node.op); }
  bool has(size_t k) const { return k < inputs.size() && !inputs[k].empty(); }
  /// Input k as a tensor; fails naming the node when it is absent or something else.
  const Tensor& in(size_t k) const;
  TensorPtr ptr(size_t k) const;
  const std::vector<HostValue>& list(size_t k) const;
  std::vector<int64_t> ints(size_t k) const { return in(k).to_ints(); }
  /// The only element of input k, or `otherwise` when it is absent.
  double number(size_t k, double otherwise) const;
  bool wants(size_t k) const { return k < node.outputs.size() && node.outputs[k] != kNoValue; }
  void give(size_t k, HostValue value);
  /// An output of this type and shape, zero-filled, to be written in place; valid until the call ends.
  Tensor& make(size_t k, DType type, const Shape& shape);
  /// The values that a subgraph needs: `explicit_inputs`, then its captures.
  std::vector<HostValue> subgraph_inputs(const Graph& g, std::vector<HostValue> explicit_inputs) const;
};

/// What one node may ask for before it is an error (kResource); tests lower them.
struct HostLimits {
  int64_t elements = int64_t{1} << 31;  ///< of a result
  int64_t trips = int64_t{1} << 32;     ///< of a loop
};
HostLimits& host_limits();

/// Inputs whose values, not only shapes, decide the shapes of the outputs: a bit each.
inline constexpr uint32_t kAllInputs = 0xFFFFFFFFu;

struct HostOperator {
  const char* domain;
  const char* name;
  void (*run)(HostCall&);
  uint32_t shape_inputs = 0;
  bool folds = true;  ///< its result follows from constant inputs alone: no random numbers, no subgraphs, no sequences
  bool specialises = false;  ///< worth a program for the very values of its shape inputs, where only a run brings them
};

const HostOperator* find_host_operator(std::string_view domain, std::string_view name);
std::span<const HostOperator> host_operators();

/// Runs one node; fails (kUnsupported) when the host has no such operator, or with its name and what is wrong.
std::vector<HostValue> run_host(const Node& node, const std::vector<HostValue>& inputs, const GraphRunner& runner);

// One list per file.
std::span<const HostOperator> host_elementwise();
std::span<const HostOperator> host_casts();
std::span<const HostOperator> host_reductions();
std::span<const HostOperator> host_scans();
std::span<const HostOperator> host_gathers();
std::span<const HostOperator> host_layouts();
std::span<const HostOperator> host_resizes();
std::span<const HostOperator> host_fills();
std::span<const HostOperator> host_linear();
std::span<const HostOperator> host_windows();
std::span<const HostOperator> host_sequences();
std::span<const HostOperator> host_control();
std::span<const HostOperator> host_text();
std::span<const HostOperator> host_vision();
std::span<const HostOperator> host_signal();
std::span<const HostOperator> host_random();
std::span<const HostOperator> host_sets();

// --- helpers of the operators ---

/// An index over a shape, last dimension fastest; next() is false after the last.
struct Odometer {
  const Shape& shape;
  std::vector<int64_t> index;
  explicit Odometer(const Shape& s) : shape(s), index(s.size(), 0) {}
  bool next();
};
/// Strides that read `own` broadcast to rank and extents of `to`.
std::vector<int64_t> broadcast_strides(const Shape& own, const Shape& to);
int64_t offset_of(const std::vector<int64_t>& index, const std::vector<int64_t>& strides);
/// Copies an element of any type, strings included.
void copy_element(Tensor& to, int64_t i, const Tensor& from, int64_t j);
/// A tensor of this type and shape, with room for strings.
Tensor blank(DType type, const Shape& shape);
/// The type that an attribute read by the importer names, or `otherwise`.
DType type_attribute(const OnnxOp& op, DType otherwise);

}  // namespace systole
