#include "base/error.h"
#include "ops/operator.h"
#include "ops/reference.h"
#include "passes/passes.h"

namespace systole {
namespace {

bool all_constant(const Lowering& l, const Node& node) {
  for (ValueId v : node.inputs) {
    if (v != kNoValue && !l.constant(v)) return false;
  }
  return true;
}

/// Lowers one node on constants alone and evaluates the result with the reference, in fp32.
void fold_through_reference(Lowering& l, const Operator& op, const Node& node) {
  Graph one;
  one.name = node.name;
  Node copy = node;
  for (ValueId& v : copy.inputs) {
    if (v != kNoValue) v = one.add_constant(l.source.value(v).name, l.constant(v));
  }
  for (ValueId& v : copy.outputs) {
    if (v != kNoValue) {
      one.values.push_back(l.source.value(v));
      one.outputs.push_back(v = static_cast<ValueId>(one.values.size() - 1));
    }
  }
  one.nodes.push_back(copy);
  Lowering sub(one, {DType::kF32, MacFormat::kF32});
  sub.folding = true;
  op.lower(sub, copy);
  for (ValueId v : one.outputs) sub.out.outputs.push_back(sub.logical(v));
  prune_and_sort(sub.out);
  auto results = evaluate(sub.out, {});
  size_t k = 0;
  for (ValueId v : node.outputs) {
    if (v != kNoValue) l.define_constant(v, std::move(results[k++]));
  }
}

}  // namespace

Graph legalise(const Graph& graph, FloatPolicy policy) {
  Lowering l(graph, policy);
  for (const Node& node : graph.nodes) {
    const auto& op = std::get<OnnxOp>(node.op);
    const Operator* record = find_operator(op.domain, op.type);
    SYSTOLE_CHECK(record, op.full_name());
    for (ValueId v : node.inputs) SYSTOLE_CHECK(v == kNoValue || l.known(v), node.name);
    for (size_t k = 0; k < static_cast<size_t>(record->inputs); ++k) {
      if (!Lowering::present(node, k)) Lowering::malformed(node, "no input " + std::to_string(k), "at least " + std::to_string(record->inputs) + " inputs");
    }
    for (ValueId v : node.inputs) {
      if (v != kNoValue && l.type(v) == DType::kString) Lowering::unsupported(node, "strings");
    }
    if (all_constant(l, node)) record->fold ? record->fold(l, node) : fold_through_reference(l, *record, node);
    else record->lower(l, node);
  }
  l.finish();
  return std::move(l.out);
}

FloatPolicy choose_policy(const Graph& graph, const std::string& precision) {
  const std::string name = policy_name(graph, precision);
  if (name == "fp32" || name == "int8") return {DType::kF32, MacFormat::kF32};
  if (name == "fp16") return {DType::kF16, MacFormat::kF16};
  return {DType::kBF16, MacFormat::kBF16};
}

std::string policy_name(const Graph& graph, const std::string& precision) {
  if (precision == "bf16" || precision == "fp32" || precision == "fp16") return precision;
  if (precision != "auto" && precision != "int8") {
    fail(ErrorCode::kBadInput, "--precision", "'" + precision + "'", "auto, bf16, fp32, fp16 or int8 (int8: a QDQ or QLinear model, its float rest in fp32)");
  }
  bool quantised = false;
  for (const Node& n : graph.nodes) {
    const std::string name = op_name(n.op);
    quantised |= name.find("QuantizeLinear") != std::string::npos || name.find("QLinear") != std::string::npos || name.find("QGemm") != std::string::npos;
  }
  if (precision == "int8" && !quantised) {
    fail(ErrorCode::kUnsupported, "--precision int8", "a float model", "a QDQ or QLinear model", "quantise the model first, or use --precision bf16");
  }
  return quantised ? "int8" : "bf16";
}

}  // namespace systole
