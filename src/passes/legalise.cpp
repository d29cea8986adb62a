#include "base/error.h"
#include "passes/partition.h"
#include "passes/passes.h"

namespace systole {
Graph legalise(const Graph& graph, FloatPolicy policy, std::shared_ptr<ConstantForms> forms) {
  Partition p = partition(graph, policy, false, std::move(forms));
  if (p.whole) return std::move(p.primitives);
  for (const auto& step : p.steps) {
    if (const auto* h = std::get_if<HostStep>(&step)) unsupported(p.graph.nodes[h->node], h->reason + "; it would run on the host");
  }
  fail(ErrorCode::kUnsupported, "model '" + graph.name + "'", "shapes that depend on values", "shapes that follow from those of the inputs");
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
