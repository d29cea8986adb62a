#include <algorithm>

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

namespace {

[[noreturn]] void refuse_float_model(const std::string& precision) {
  fail(ErrorCode::kUnsupported, "--precision " + precision, "a float model", "a QDQ or QLinear model", "quantise the model first, or use --precision bf16");
}

}  // namespace

FloatPolicy choose_policy(const Graph& graph, const std::string& precision) {
  const std::string name = policy_name(graph, precision);
  if (name == "fp32" || name == "int8") return {DType::kF32, MacFormat::kF32};
  if (name == "fp16") return {DType::kF16, MacFormat::kF16};
  return {DType::kBF16, MacFormat::kBF16};
}

std::string policy_name(const Graph& graph, const std::string& precision) {
  const bool quantised = std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) {
    const std::string name = op_name(n.op);
    return name.find("QuantizeLinear") != std::string::npos || name.find("QLinear") != std::string::npos || name.find("QGemm") != std::string::npos;
  });
  if (precision == "bf16" || precision == "int8-bf16") {
    if (precision == "int8-bf16" && !quantised) refuse_float_model(precision);
    return quantised ? "int8-bf16" : "bf16";
  }
  if (precision == "fp32" || precision == "fp16") return precision;
  if (precision != "auto" && precision != "int8") {
    fail(ErrorCode::kBadInput, "--precision", "'" + precision + "'", "auto, bf16, fp32, fp16, int8 or int8-bf16 (the last two: a QDQ or QLinear model, its float rest in fp32 or bf16)");
  }
  if (precision == "int8" && !quantised) refuse_float_model(precision);
  return quantised ? "int8" : "bf16";
}

}  // namespace systole
