#include "train/model.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <random>
#include <utility>

#include "base/error.h"
#include "graph/checks.h"
#include "import/graph_writer.h"
#include "passes/passes.h"
#include "runtime/model_file.h"
#include "runtime/observe.h"
#include "runtime/rebatch.h"
#include "train/expand.h"
#include "train/fold.h"
#include "train/recognise.h"

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }

}  // namespace

TrainableModel::TrainableModel(const std::string& path, int64_t batch, bool logits, const std::vector<std::string>& freeze, const CompileOptions& options, const Head& head) {
  file_ = read_onnx(path, options);
  inline_constants(file_);
  prune_and_sort(file_);
  const std::vector<ValueId> outputs = file_.outputs;
  put_first(file_, head.name);
  replace_last_layer(file_, head);
  const Graph read = file_;
  stored_ = read_quantised(file_);
  fold_around_weights(file_);
  prune_and_sort(file_);
  if (policy_name(file_, "auto") == "int8") fail(ErrorCode::kUnsupported, path, "operators on codes", "a float model, or a QDQ model as systole quantize writes it");
  whole_ = quantised() ? read : file_;
  whole_.outputs = outputs, file_.outputs.resize(1);
  prune_and_sort(file_);
  if (file_.inputs.empty()) fail(ErrorCode::kUnsupported, path, "no inputs", "an input to learn from");
  for (ValueId v : file_.inputs) {
    const Value& in = file_.value(v);
    if (in.shape.empty() || (!is_float(in.type) && !integer_kind(in.type).bits)) fail(ErrorCode::kUnsupported, path, "input '" + in.name + "' of " + std::string(to_string(in.type)) + to_string(in.shape), "floats or integers [batch, ...]", "an input that never changes can be given with --constant NAME=VALUE");
  }
  if (begins_with_time(file_)) fail(ErrorCode::kUnsupported, path, "a recurrent layer that reads the input itself, whose first axis is time", "an input [batch, time, ...]", "a Transpose in front of the layer");
  Node& last = file_.nodes.back();
  if (logits && op_of(last).type == "Softmax" && last.outputs[0] == file_.outputs[0]) file_.outputs[0] = last.inputs[0];
  prune_and_sort(file_);
  rebatch(file_, batch);
  infer_shapes(file_);
  fold_shapes(file_);
  recognise_gelu(file_);
  recognise_normalization(file_);
  pool_before_relu(file_);
  values_before_ = file_.values.size();
  write_out(file_);
  if (logits_shape().empty() || logits_shape()[0] != batch) fail(ErrorCode::kUnsupported, path, "an output of shape " + to_string(logits_shape()) + " for a batch of " + std::to_string(batch), "a first extent that follows the batch", "the model may reshape to a fixed batch of 1");
  if (head.outputs && logits_shape().back() != head.outputs && (logits_shape().size() < 2 || logits_shape()[1] != head.outputs)) {
    fail(ErrorCode::kUnsupported, path, "with a new last layer, outputs of shape " + to_string(logits_shape()), std::to_string(head.outputs) + " along axis 1 or the last");
  }
  find_parameters(freeze);
}

ValueId TrainableModel::weight_behind(ValueId v) const {
  for (bool again = true; again && !file_.value(v).constant;) {
    again = false;
    for (const Node& n : file_.nodes) {
      const std::string& t = op_of(n).type;
      if (n.outputs[0] != v || !(t == "Reshape" || t == "Transpose" || t == "Unsqueeze" || t == "Squeeze" || t == "Identity" || t == "Slice")) continue;
      v = n.inputs[0], again = true;
    }
  }
  return static_cast<size_t>(v) < values_before_ ? v : kNoValue;
}

void TrainableModel::find_parameters(const std::vector<std::string>& freeze) {
  std::map<ValueId, size_t> known;
  for (const Node& n : file_.nodes) {
    for (size_t k : weight_inputs(n)) {
      if (k >= n.inputs.size() || n.inputs[k] == kNoValue) continue;
      const ValueId weight = weight_behind(n.inputs[k]);
      if (weight == kNoValue || !may_learn(file_.value(weight).constant) || known.count(weight)) continue;
      const Value& v = file_.value(weight);
      known[weight] = parameters_.size();
      Weight p{v.name, weight, {}, false};
      if (op_of(n).type == "Conv" && k == 1 && v.constant->shape.size() == 4) p.perm = {2, 3, 1, 0};
      p.frozen = std::any_of(freeze.begin(), freeze.end(), [&](const std::string& f) { return v.name.starts_with(f); });
      parameters_.push_back(std::move(p));
    }
    if (op_of(n).type != "BatchNormalization") continue;
    for (size_t k : {1, 2, 3, 4}) {
      if (k >= n.inputs.size() || n.inputs[k] == kNoValue || !file_.value(n.inputs[k]).constant) unsupported(n, "training with scale, bias or statistics that the file does not hold");
    }
    statistics_.push_back({n.inputs.at(3), n.inputs.at(4), static_cast<double>(op_of(n).real("momentum", 0.9f))});
  }
  if (parameters_.empty()) fail(ErrorCode::kUnsupported, file_.name, "no float weights", "a model with convolutions or products");
  if (std::all_of(parameters_.begin(), parameters_.end(), [](const Weight& p) { return p.frozen; })) fail(ErrorCode::kBadInput, "--freeze", "all weights", "some that learn");
}

std::vector<Value> TrainableModel::inputs() const {
  std::vector<Value> list;
  for (ValueId v : file_.inputs) list.push_back(file_.value(v));
  return list;
}

std::vector<Tensor> TrainableModel::initial_parameters() const {
  std::vector<Tensor> list;
  for (const Weight& p : parameters_) {
    const Tensor& t = *file_.value(p.constant).constant;
    list.push_back(p.perm.empty() ? t : transpose(t, Perm(p.perm.begin(), p.perm.end())));
  }
  return list;
}

std::vector<Tensor> TrainableModel::initial_statistics() const {
  std::vector<Tensor> list;
  for (const RunningStatistics& s : statistics_) list.push_back(*file_.value(s.mean_constant).constant), list.push_back(*file_.value(s.variance_constant).constant);
  return list;
}

namespace {

/// x times a mask that comes with each step.
ValueId dropped(Builder& b, const Node& n, ForwardGraph& f) {
  const TensorPtr given = n.inputs.size() > 1 && n.inputs[1] != kNoValue ? f.graph.value(n.inputs[1]).constant : nullptr;
  if (n.inputs.size() > 1 && n.inputs[1] != kNoValue && !given) unsupported(n, "a ratio computed at run time");
  const double ratio = given ? given->at(0) : static_cast<double>(op_of(n).real("ratio", 0.5f));
  if (!(ratio >= 0 && ratio < 1)) malformed(n, "ratio " + std::to_string(ratio), "0 to 1");
  if (n.outputs.size() > 1 && n.outputs[1] != kNoValue) unsupported(n, "the mask as an output");
  if (ratio == 0) return n.inputs[0];
  f.masks.push_back({b.input(n.name + ".mask", DType::kF32, b.shape(n.inputs[0])), ratio});
  return b.mul(n.inputs[0], f.masks.back().input);
}

}  // namespace

ForwardGraph TrainableModel::forward(bool training) const {
  ForwardGraph f;
  f.graph = file_;
  f.graph.nodes.clear();
  Builder b(f.graph, training ? "train." : "eval.");
  std::map<ValueId, ValueId> now;  // values that others stand for
  for (const Weight& p : parameters_) {
    const Tensor& t = *file_.value(p.constant).constant;
    Shape held;
    for (size_t i = 0; i < t.shape.size(); ++i) held.push_back(p.perm.empty() ? t.shape[i] : t.shape[static_cast<size_t>(p.perm[i])]);
    f.parameters.push_back(b.input(p.name + ".parameter", DType::kF32, held));
    ValueId w = p.perm.empty() ? f.parameters.back() : b.transpose(f.parameters.back(), {3, 2, 0, 1});
    if (const auto s = stored_.find(p.constant); s != stored_.end() && s->second.rounds) w = fake_quantise(b, w, b.tensor(s->second.scale), s->second.lo, s->second.hi);
    now[p.constant] = w;
  }
  for (const RunningStatistics& s : statistics_) {
    for (ValueId v : {s.mean_constant, s.variance_constant}) f.running.push_back(b.input(file_.value(v).name + ".running", DType::kF32, file_.value(v).constant->shape));
  }
  auto current = [&](ValueId v) { return now.count(v) ? now.at(v) : v; };
  size_t statistic = 0;
  for (const Node& from : file_.nodes) {
    Node n = from;
    for (ValueId& v : n.inputs) v = v == kNoValue ? v : current(v);
    const std::string& type = op_of(n).type;
    if (type == "BatchNormalization") {
      ValueId mean = f.running[2 * statistic], variance = f.running[2 * statistic + 1];
      if (training) {
        std::vector<int64_t> axes = {0};
        for (int64_t d = 2; d < b.rank(n.inputs[0]); ++d) axes.push_back(d);
        mean = b.mean(n.inputs[0], axes, false);
        Shape per_channel(b.shape(n.inputs[0]).size(), 1);
        per_channel[1] = b.shape(mean)[0];
        const ValueId centred = b.sub(n.inputs[0], b.reshape(mean, per_channel));
        variance = b.mean(b.mul(centred, centred), axes, false);
        f.batch_statistics.push_back(mean), f.batch_statistics.push_back(variance);
      }
      ++statistic;
      now[n.outputs[0]] = expand_batch_normalization(b, n, n.inputs[0], n.inputs[1], n.inputs[2], mean, variance);
    } else if (type == "Dropout") {
      now[n.outputs[0]] = training ? dropped(b, n, f) : n.inputs[0];
    } else if (const auto outputs = expand_for_gradients(b, n); !outputs.empty()) {
      for (size_t k = 0; k < n.outputs.size(); ++k) {
        if (n.outputs[k] != kNoValue) now[n.outputs[k]] = outputs.at(k);
      }
    } else {
      f.graph.nodes.push_back(std::move(n));
    }
  }
  f.logits = current(file_.outputs[0]);
  f.graph.outputs = {f.logits};
  return f;
}

void TrainableModel::write(const std::vector<Tensor>& parameters, const std::vector<Tensor>& statistics, const std::string& doc, const std::string& path) const {
  Graph g = whole_;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Weight& p = parameters_[i];
    Perm back(p.perm.size());
    for (size_t d = 0; d < p.perm.size(); ++d) back[static_cast<size_t>(p.perm[d])] = static_cast<int>(d);
    Tensor w = p.perm.empty() ? parameters[i] : transpose(parameters[i], back);
    if (const auto s = stored_.find(p.constant); s != stored_.end()) {
      Value& codes = g.value(s->second.codes);
      codes.constant = std::make_shared<const Tensor>(codes_of(w, s->second, codes.constant->type));
    } else {
      g.value(p.constant).constant = std::make_shared<const Tensor>(std::move(w));
    }
  }
  for (size_t i = 0; i < statistics_.size(); ++i) {
    g.value(statistics_[i].mean_constant).constant = std::make_shared<const Tensor>(statistics[2 * i]);
    g.value(statistics_[i].variance_constant).constant = std::make_shared<const Tensor>(statistics[2 * i + 1]);
  }
  int opset = 7;
  for (const Node& n : g.nodes) opset = std::max(opset, op_of(n).domain.empty() ? op_of(n).opset : 0);
  write_onnx(g, opset, doc, path);
}

}  // namespace systole
