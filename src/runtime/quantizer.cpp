// quantize_model: calibration, ranges, rewriting, and layers back to float until a bound on the accuracy holds.
#include <algorithm>
#include <cmath>
#include <set>

#include "import/graph_writer.h"
#include "passes/pipeline.h"
#include "quantize/einsum.h"
#include "quantize/rewrite.h"
#include "quantize/upgrade.h"
#include "runtime/dataset.h"
#include "runtime/model_file.h"
#include "runtime/observe.h"

namespace systole {
namespace {

int64_t constant_bytes(const Graph& g) {
  std::set<ValueId> used;
  for (const Node& n : g.nodes) used.insert(n.inputs.begin(), n.inputs.end());
  int64_t bytes = 0;
  for (ValueId v : used) {
    if (v == kNoValue || !g.value(v).constant) continue;
    const Tensor& t = *g.value(v).constant;
    const int bits = integer_kind(t.type).bits;
    bytes += bits && bits < 8 ? (t.count() * bits + 7) / 8 : static_cast<int64_t>(t.bytes.size());
  }
  return bytes;
}

/// Where shapes follow from data, Einsum stays, and is computed in float.
void einsum_as_matmul(Graph& graph) {
  Graph shaped = graph;
  try {
    infer_shapes(shaped);
  } catch (const Failure& f) {
    if (f.error().code == ErrorCode::kUnsupported) return;
    throw;
  }
  write_einsum_as_matmul(shaped);
  graph = std::move(shaped);
}

class Quantizer {
 public:
  Quantizer(const std::string& path, const CompileOptions& compile_options, const QuantizeOptions& options) : o_(options), npu_(compile_options.npu) {
    Graph graph = read_onnx(path, compile_options);
    if (policy_name(graph, "auto") == "int8") fail(ErrorCode::kBadInput, path, "a quantised model", "a float model");
    front_ = run_simplify(std::move(graph), "fp32");
    if (has_einsum(front_.graph)) einsum_as_matmul(front_.graph);
    fold_constants(front_.graph);
    if (o_.equalise) report_.equalised_pairs = equalise(front_.graph);
    prune_and_sort(front_.graph);
    if (quantisable_nodes(front_.graph, o_.weights).empty()) fail(ErrorCode::kUnsupported, path, "no layer to quantise", "a Conv, Gemm or MatMul whose weights are constants in fp32");
    report_.weight_bytes_before = constant_bytes(front_.graph);
    if (front_.graph.inputs.empty()) fail(ErrorCode::kUnsupported, path, "no inputs", "an input to calibrate with");
    std::vector<TensorInfo> inputs;
    for (ValueId v : front_.graph.inputs) inputs.push_back({front_.graph.value(v).name, front_.graph.value(v).type, front_.graph.value(v).shape});
    if (o_.random_samples > 0) data_.samples = random_samples(inputs, o_.random_samples, 1);
    else data_ = load_dataset(o_.data, inputs);
    report_.samples = static_cast<int64_t>(data_.samples.size());
  }

  QuantizeReport run(const std::string& out_path) {
    calibrate();
    rewrite_.method = o_.method, rewrite_.weights = o_.weights, rewrite_.group = o_.group, rewrite_.bias_correction = o_.bias_correction;
    if (o_.weights != "int8" && o_.weights != "int4") fail(ErrorCode::kBadInput, "--weights", "'" + o_.weights + "'", "int8 or int4");
    if (o_.weights == "int4" && o_.group < 1) fail(ErrorCode::kBadInput, "--group", std::to_string(o_.group), "1 or more");
    Graph best = quantised();
    evaluate(best);
    if (o_.max_drop >= 0 && drop() > o_.max_drop) best = keep_sensitive_layers();
    report_.layers = static_cast<int64_t>(quantisable_nodes(front_.graph, o_.weights).size() - rewrite_.keep_float.size());
    report_.float_layers.assign(rewrite_.keep_float.begin(), rewrite_.keep_float.end());
    report_.weight_bytes = constant_bytes(best);
    const int opset = o_.weights == "int4" ? 21 : 13;
    int needed = opset;
    for (const Node& n : best.nodes) needed = std::max(needed, std::get<OnnxOp>(n.op).domain.empty() ? std::get<OnnxOp>(n.op).opset : 0);
    const bool old_softmax = std::any_of(best.nodes.begin(), best.nodes.end(), [](const Node& n) { return (op_name(n.op).ends_with("oftmax") || op_name(n.op) == "Hardmax") && std::get<OnnxOp>(n.op).opset < 13; });
    if (old_softmax) infer_shapes(best);  // which axes it joins depends on the rank
    upgrade_opset(best, needed);
    write_onnx(best, needed, "Quantised by systole quantize: " + o_.weights + " weights, ranges by " + o_.method + " over " + std::to_string(report_.samples) + " samples.", out_path);
    return report_;
  }

 private:
  void say(const std::string& text) const {
    if (o_.progress) o_.progress(text);
  }

  /// Two passes over the samples: extremes, then histograms; the float outputs are kept for comparison.
  void calibrate() {
    const auto values = activations_to_observe(front_.graph);
    const size_t own = front_.graph.outputs.size();
    Observer observer(front_.graph, values, context_of(npu_, front_));
    for (int pass = 0; pass < (o_.method == "minmax" ? 1 : 2); ++pass) {
      for (size_t i = 0; i < data_.samples.size(); ++i) {
        say("calibration, pass " + std::to_string(pass + 1) + ": sample " + std::to_string(i + 1) + " of " + std::to_string(data_.samples.size()));
        const auto out = observer.run(data_.samples[i]);
        if (pass == 0) float_outputs_.push_back(out[0]);
        for (size_t k = 0; k < values.size(); ++k) {
          if (!is_float(out[own + k].type)) continue;  // shapes on their way through a Slice stay integers
          pass == 0 ? histograms_[values[k]].add_extremes(out[own + k]) : histograms_[values[k]].add_counts(out[own + k]);
        }
        if (i == 0 && pass == 0) {
          for (size_t k = 0; k < values.size(); ++k) front_.graph.value(values[k]).shape = out[own + k].shape, front_.graph.value(values[k]).shape_known = true;
        }
      }
    }
  }

  Graph quantised() const { return insert_qdq(front_.graph, histograms_, rewrite_); }

  /// Top-1 of the quantised graph as the NPU computes it, and the error of its outputs.
  double evaluate(const Graph& graph) {
    FrontResult q = run_onnx_passes(graph, "auto");
    Observer observer(q.graph, {}, context_of(npu_, q));
    double signal = 0, noise = 0;
    int64_t same = 0, right = 0, float_right = 0;
    for (size_t i = 0; i < data_.samples.size(); ++i) {
      say("evaluation: sample " + std::to_string(i + 1) + " of " + std::to_string(data_.samples.size()));
      const Tensor y = observer.run(data_.samples[i])[0];
      const Tensor& x = float_outputs_[i];
      for (int64_t k = 0; k < x.count(); ++k) signal += x.at(k) * x.at(k), noise += (x.at(k) - y.at(k)) * (x.at(k) - y.at(k));
      same += top_one(x) == top_one(y);
      if (!data_.labels.empty()) right += top_one(y) == data_.labels[i], float_right += top_one(x) == data_.labels[i];
    }
    const double n = static_cast<double>(data_.samples.size());
    report_.agreement = 100 * static_cast<double>(same) / n;
    report_.sqnr_db = noise == 0 ? 200 : 10 * std::log10(signal / noise);
    if (!data_.labels.empty()) report_.accuracy = 100 * static_cast<double>(right) / n, report_.float_accuracy = 100 * static_cast<double>(float_right) / n;
    return report_.sqnr_db;
  }

  /// Points of top-1 lost; without labels, samples whose top-1 changed.
  double drop() const { return data_.labels.empty() ? 100 - report_.agreement : report_.float_accuracy - report_.accuracy; }

  /// Each layer alone in float, in the order of what that gains, until the bound holds.
  Graph keep_sensitive_layers() {
    std::vector<std::pair<double, std::string>> order;
    const auto layers = quantisable_nodes(front_.graph, o_.weights);
    for (size_t i = 0; i < layers.size(); ++i) {
      say("sensitivity: layer " + std::to_string(i + 1) + " of " + std::to_string(layers.size()));
      rewrite_.keep_float = {layers[i]};
      order.emplace_back(-evaluate(quantised()), layers[i]);
    }
    std::sort(order.begin(), order.end());
    rewrite_.keep_float.clear();
    Graph best;
    for (const auto& [gain, name] : order) {
      rewrite_.keep_float.insert(name);
      evaluate(best = quantised());
      if (drop() <= o_.max_drop) return best;
    }
    return best;
  }

  const QuantizeOptions& o_;
  const std::string npu_;
  FrontResult front_;
  Dataset data_;
  std::map<ValueId, Histogram> histograms_;
  std::vector<Tensor> float_outputs_;
  RewriteOptions rewrite_;
  QuantizeReport report_;
};

}  // namespace

Result<QuantizeReport> quantize_model(const std::string& onnx_path, const std::string& out_path, const CompileOptions& compile_options, const QuantizeOptions& options) {
  return catch_failures([&] { return Quantizer(onnx_path, compile_options, options).run(out_path); });
}

}  // namespace systole
