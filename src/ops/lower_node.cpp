// Lowering of one node: constants are computed here, everything else becomes primitives.
#include <algorithm>

#include "base/error.h"
#include "host/host.h"
#include "ops/operator.h"
#include "ops/reference.h"

namespace systole {
namespace {

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

void fold_on_host(Lowering& l, const Node& node) {
  std::vector<HostValue> inputs;
  for (ValueId v : node.inputs) inputs.push_back(v == kNoValue ? HostValue() : HostValue(l.constant(v)));
  const auto outputs = run_host(node, inputs, {});
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (outputs[k].tensor) l.define_constant(node.outputs[k], *outputs[k].tensor);
  }
}

/// Codes and scales stay apart for the contractions that read them.
bool keep_grouped(Lowering& l, const Node& node, const OnnxOp& op) {
  if (op.full_name() != "DequantizeLinear" || l.folding || node.inputs.size() < 2) return false;
  auto g = grouped_weights(op, l.constant(node.inputs[0]), l.constant(node.inputs[1]), Lowering::present(node, 2) ? l.constant(node.inputs[2]) : nullptr);
  if (!g) return false;
  l.define_grouped(node.outputs[0], std::move(*g));
  return true;
}

void check_inputs(const Lowering& l, const Operator& record, const Node& node) {
  for (size_t k = 0; k < static_cast<size_t>(record.inputs); ++k) {
    if (!Lowering::present(node, k)) malformed(node, "no input " + std::to_string(k), "at least " + std::to_string(record.inputs) + " inputs");
  }
  for (ValueId v : node.inputs) {
    if (v != kNoValue && l.type(v) == DType::kString) unsupported(node, "strings");
  }
}

}  // namespace

bool folds(const Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const HostOperator* host = find_host_operator(op.domain, op.type);
  if (host && !host->folds) return false;
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v == kNoValue || l.grouped(v) || l.constant(v); });
}

void lower_node(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Operator* record = find_operator(op.domain, op.type);
  const bool constant = folds(l, node);
  if (constant && keep_grouped(l, node, op)) return;
  if (constant && find_host_operator(op.domain, op.type)) return fold_on_host(l, node);
  if (!record || !record->lower) unsupported(node, "no rule lowers it to contract, map and move");
  for (ValueId v : node.inputs) SYSTOLE_CHECK(v == kNoValue || l.known(v), node.name);
  check_inputs(l, *record, node);
  checked(node, [&] { constant ? fold_through_reference(l, *record, node) : record->lower(l, node); });
}

}  // namespace systole
