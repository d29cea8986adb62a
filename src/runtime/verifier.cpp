// verify_model: layer by layer against the float reference, against recorded outputs, and on labelled sets.
#include <algorithm>
#include <map>

#include "passes/pipeline.h"
#include "runtime/dataset.h"
#include "runtime/inputs.h"
#include "runtime/model_file.h"
#include "runtime/observe.h"

namespace systole {
namespace {

/// Float results of the operators that compute, by value name, in order.
std::vector<ValueId> layer_values(const Graph& g) {
  static const char* const kSkipped[] = {"Constant", "Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "QuantizeLinear", "Cast", "If", "Loop", "Scan"};
  std::vector<ValueId> list;
  for (const Node& n : g.nodes) {
    const std::string& type = std::get<OnnxOp>(n.op).type;
    if (n.outputs.empty() || n.outputs[0] == kNoValue || std::count(g.outputs.begin(), g.outputs.end(), n.outputs[0])) continue;
    if (std::none_of(std::begin(kSkipped), std::end(kSkipped), [&](const char* s) { return type == s; })) list.push_back(n.outputs[0]);
  }
  return list;
}

class Verifier {
 public:
  Verifier(const std::string& path, const CompileOptions& c, const VerifyOptions& o) : o_(o), c_(c) {
    // The original graph, before passes fuse values away, so that both sides name the same layers.
    reference_ = load(o.reference.empty() ? path : o.reference, "fp32", c);
    // A quantised or trained model has fixed extents where the one that it comes from has free ones.
    CompileOptions own = c;
    if (!o.reference.empty()) own.dims.clear();
    for (ValueId v : reference_.graph.inputs) own.input_shapes[reference_.graph.value(v).name] = reference_.graph.value(v).shape;
    subject_ = load(path, c.precision, own);
  }

  VerifyReport run() {
    compare_layers();
    if (!o_.data.data.empty()) measure_accuracy();
    return report_;
  }

 private:
  FrontResult load(const std::string& path, const std::string& precision, CompileOptions c) const {
    for (const auto& [name, t] : o_.inputs) c.input_shapes[name] = t->shape;
    FrontResult f = run_onnx_passes(read_onnx(path, c), precision);
    if (precision == "fp32") f.policy = {DType::kF32, MacFormat::kF32};
    return f;
  }

  /// Inputs that --input does not give.
  std::vector<TensorInfo> open_inputs(const std::vector<Plan::Boundary>& boundary) const {
    std::vector<TensorInfo> open;
    for (const auto& b : boundary) {
      if (!o_.inputs.count(b.name)) open.push_back({b.name, b.type, b.shape});
    }
    return open;
  }
  /// A sample's tensors for the open inputs, those given for the others.
  std::vector<HostValue> inputs_for(const std::vector<Plan::Boundary>& boundary, const std::vector<TensorInfo>& open, const std::vector<Tensor>& sample) const {
    std::vector<HostValue> values;
    for (const auto& b : boundary) {
      const auto given = o_.inputs.find(b.name);
      const auto at = std::find_if(open.begin(), open.end(), [&](const TensorInfo& i) { return i.name == b.name; });
      if (given == o_.inputs.end() && at == open.end()) fail(ErrorCode::kMismatch, "input '" + b.name + "'", "an input of the reference alone", "the same inputs");
      if (given != o_.inputs.end()) values.emplace_back(given->second);
      else values.emplace_back(sample[static_cast<size_t>(at - open.begin())]);
    }
    return values;
  }
  /// The first sample of the data, or random numbers.
  std::vector<Tensor> one_sample(const std::vector<TensorInfo>& open) const {
    std::vector<Tensor> sample;
    if (o_.data.data.empty() || open.empty()) {
      for (size_t k = 0; k < open.size(); ++k) sample.push_back(random_input(open[k], o_.seed + k));
      return sample;
    }
    DataOptions one = o_.data;
    one.samples = 1;
    const Dataset d = load_dataset(one, open);
    if (d.samples.empty()) fail(ErrorCode::kMismatch, one.data, "no samples", "at least one");
    return d.samples[0];
  }

  void compare_layers() {
    const auto mine = layer_values(subject_.graph), theirs = layer_values(reference_.graph);
    Observer subject(subject_.graph, mine, context_of(c_.npu, subject_)), reference(reference_.graph, theirs, context_of(c_.npu, reference_));
    const auto open = open_inputs(subject.inputs());
    const auto sample = one_sample(open);
    const auto got = subject.run(inputs_for(subject.inputs(), open, sample)), want = reference.run(inputs_for(reference.inputs(), open, sample));
    std::map<std::string, const Tensor*> by_name;
    for (size_t k = 0; k < theirs.size(); ++k) by_name[reference_.graph.value(theirs[k]).name] = &want[reference_.graph.outputs.size() + k];
    for (size_t k = 0; k < reference_.graph.outputs.size(); ++k) by_name[reference_.graph.value(reference_.graph.outputs[k]).name] = &want[k];
    const Uses uses(subject_.graph);
    auto judge = [&](ValueId v, const Tensor& t) {
      const std::string& name = subject_.graph.value(v).name;
      const auto other = by_name.find(name);
      if (other == by_name.end() || !is_float(t.type) || !is_float(other->second->type)) return;
      const Difference d = difference_of(t, *other->second);
      const int p = uses.producer[static_cast<size_t>(v)];
      report_.layers.push_back({name, p < 0 ? "" : op_name(subject_.graph.nodes[static_cast<size_t>(p)].op), d.cosine, d.max_abs, d.sqnr_db});
      if (report_.first_below < 0 && d.cosine < o_.least_cosine) report_.first_below = static_cast<int>(report_.layers.size()) - 1;
    };
    for (size_t k = 0; k < mine.size(); ++k) judge(mine[k], got[subject_.graph.outputs.size() + k]);
    for (size_t k = 0; k < subject_.graph.outputs.size(); ++k) {
      judge(subject_.graph.outputs[k], got[k]);
      const std::string& name = subject_.graph.value(subject_.graph.outputs[k]).name;
      const auto recorded = o_.expected.find(name);
      if (recorded == o_.expected.end()) continue;
      const Difference d = difference_of(got[k], *recorded->second);
      report_.outputs.push_back({name, "recorded", d.cosine, d.max_abs, d.sqnr_db});
    }
    for (const auto& expected : o_.expected) {
      const std::string& name = expected.first;
      if (std::none_of(report_.outputs.begin(), report_.outputs.end(), [&](const LayerVerdict& v) { return v.name == name; })) fail(ErrorCode::kNotFound, "--expect " + name, "no such output", "an output of the model");
    }
  }

  void measure_accuracy() {
    Observer subject(subject_.graph, {}, context_of(c_.npu, subject_)), reference(reference_.graph, {}, context_of(c_.npu, reference_));
    const auto open = open_inputs(subject.inputs());
    if (open.empty()) fail(ErrorCode::kUnsupported, "--data", "every input given by --input", "an input that takes samples");
    const Dataset d = load_dataset(o_.data, open);
    int64_t right = 0, reference_right = 0, same = 0;
    for (size_t i = 0; i < d.samples.size(); ++i) {
      const int64_t y = top_one(subject.run(inputs_for(subject.inputs(), open, d.samples[i]))[0]), x = top_one(reference.run(inputs_for(reference.inputs(), open, d.samples[i]))[0]);
      same += x == y;
      if (!d.labels.empty()) right += y == d.labels[i], reference_right += x == d.labels[i];
    }
    const double n = static_cast<double>(d.samples.size());
    report_.samples = static_cast<int64_t>(d.samples.size());
    report_.agreement = 100 * static_cast<double>(same) / n;
    if (!d.labels.empty()) report_.accuracy = 100 * static_cast<double>(right) / n, report_.reference_accuracy = 100 * static_cast<double>(reference_right) / n;
  }

  const VerifyOptions& o_;
  const CompileOptions& c_;
  FrontResult subject_, reference_;
  VerifyReport report_;
};

}  // namespace

Result<VerifyReport> verify_model(const std::string& onnx_path, const CompileOptions& compile_options, const VerifyOptions& options) {
  return catch_failures([&] { return Verifier(onnx_path, compile_options, options).run(); });
}

}  // namespace systole
