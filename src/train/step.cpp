#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "codegen/compile.h"
#include "passes/passes.h"
#include "runtime/program_cache.h"
#include "sim/timing/timing.h"
#include "train/convolution.h"
#include "train/fp8.h"
#include "train/gradients.h"
#include "train/random.h"

namespace systole {
namespace {

Compiled compile_graph(Graph graph, const std::string& precision, const StepOptions& o, Effort effort = Effort::kUsual) {
  prune_and_sort(graph);
  spread_transposed_convolutions(graph);
  const FloatPolicy policy = choose_policy(graph, precision);
  auto context = std::make_shared<PlanContext>(PlanContext{load_machine(o.npu), policy, policy_name(graph, precision), {}, o.cache ? ProgramCache::default_folder() : "", o.reference, o.recompute.mode != "none", effort});
  context->judge = judge_on(context->machine);
  std::string name = graph.name;
  return std::make_shared<const CompiledModel>(std::move(name), std::make_unique<Plan>(std::move(graph), context), context);
}

std::vector<Tensor> run_all(const Compiled& model, const std::vector<HostValue>& inputs) {
  std::vector<Tensor> out;
  for (const HostValue& v : model->run(inputs)) out.push_back(*v.tensor);
  return out;
}

void append(std::vector<HostValue>& list, const std::vector<Tensor>& tensors) { list.insert(list.end(), tensors.begin(), tensors.end()); }

/// Sums of gradients: the sums so far, then the next ones; a sum each.
Graph addition_graph(const std::vector<Shape>& shapes) {
  Graph g;
  g.name = "addition";
  Builder b(g, "addition.");
  std::vector<ValueId> sums;
  for (size_t i = 0; i < shapes.size(); ++i) sums.push_back(b.input("sum" + std::to_string(i), DType::kF32, shapes[i]));
  for (size_t i = 0; i < shapes.size(); ++i) g.outputs.push_back(b.add(sums[i], b.input("part" + std::to_string(i), DType::kF32, shapes[i])));
  return g;
}

/// running' = momentum running + (1 - momentum) batch, beside the optimiser's update.
void add_statistics(Graph& g, const TrainableModel& model) {
  Builder b(g, "statistics.");
  std::vector<std::pair<ValueId, double>> running, batch;
  for (const RunningStatistics& s : model.statistics()) {
    for (int k = 0; k < 2; ++k) running.push_back({kNoValue, s.momentum});
  }
  const auto shapes = model.initial_statistics();
  for (size_t i = 0; i < running.size(); ++i) running[i].first = b.input("running" + std::to_string(i), DType::kF32, shapes[i].shape);
  for (size_t i = 0; i < running.size(); ++i) batch.push_back({b.input("batch" + std::to_string(i), DType::kF32, shapes[i].shape), 1 - running[i].second});
  for (size_t i = 0; i < running.size(); ++i) g.outputs.push_back(b.add(b.scale(running[i].first, running[i].second), b.scale(batch[i].first, batch[i].second)));
}

/// Mask `number` of a batch: element i is dropped by the 32 random bits at its position, whatever is computed when and where.
Tensor mask_of(const Shape& shape, double ratio, uint64_t seed, int64_t step, size_t batch, size_t number) {
  Tensor t(DType::kF32, shape);
  const auto limit = static_cast<uint64_t>(ratio * 4294967296.0);
  const float kept = static_cast<float>(1 / (1 - ratio));
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int64_t i = 0; i < t.count(); i += 4) {
    const auto bits = philox(key, {static_cast<uint32_t>(i / 4), static_cast<uint32_t>(step), static_cast<uint32_t>(batch), static_cast<uint32_t>(number)});
    for (int64_t k = i; k < std::min(i + 4, t.count()); ++k) t.data<float>()[k] = bits[static_cast<size_t>(k - i)] < limit ? 0.0f : kept;
  }
  return t;
}

/// A byte for each element of weight `number`, by its position, whatever is computed when and where.
Tensor bytes_of_weight(const Shape& shape, uint64_t seed, int64_t step, size_t number) {
  constexpr uint32_t kRounding = 0x80000000;  // apart from masks, which count from 0
  Tensor t(DType::kU8, shape);
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const int64_t n = t.count();
  parallel_for(ceil_div(n, 16), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto bits = philox(key, {static_cast<uint32_t>(i), static_cast<uint32_t>(step), static_cast<uint32_t>(i >> 32), kRounding + static_cast<uint32_t>(number)});
      std::memcpy(t.bytes.data() + 16 * i, bits.data(), static_cast<size_t>(std::min<int64_t>(16, n - 16 * i)));
    }
  });
  return t;
}

/// Rounded to nearest (or exactly, where it was narrow before).
Tensor converted(const Tensor& from, DType type) {
  if (from.type == type) return from;
  Tensor t(type, from.shape);
  parallel_for(t.count(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) t.set(i, from.at(i));
  });
  return t;
}

bool all_finite(const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) {
    for (int64_t i = 0, n = t.count(); i < n; ++i) {
      if (!std::isfinite(t.load<float>(i))) return false;
    }
  }
  return true;
}

/// Micikevicius et al. 2018, section 3.2: smaller at once where a gradient overflowed, greater again after a while.
void adapt(Tensor& scaling, bool good) {
  float *scale = scaling.data<float>(), *steps = scale + 1;
  if (!good) *scale = std::max(1.0f, *scale / 2), *steps = 0;
  else if (++*steps >= 200) *scale = std::min(16777216.0f, *scale * 2), *steps = 0;
}

}  // namespace

TrainingPrograms::TrainingPrograms(const TrainableModel& model, const StepOptions& options) : model_(model), options_(options) {
  ForwardGraph f = model.forward(true);
  std::erase_if(f.graph.inputs, [&](ValueId v) { return std::count(f.running.begin(), f.running.end(), v) != 0; });
  for (const auto& m : f.masks) masks_.push_back({f.graph.value(m.input).shape, m.ratio});
  std::vector<ValueId> wrt;
  std::vector<Shape> shapes;
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    if (model.parameters()[i].frozen) continue;
    learning_.push_back(i), wrt.push_back(f.parameters[i]), shapes.push_back(f.graph.value(f.parameters[i]).shape);
  }
  const bool fp8 = options.precision == "fp8";
  const std::string precision = fp8 ? "bf16" : options.precision;  // of everything but the operands of products
  find_narrow(f);
  prune_and_sort(f.graph);
  const size_t forward_nodes = f.graph.nodes.size();
  Builder b(f.graph, "loss.");
  const Loss loss = build_loss(b, options.loss, f.logits, {options.class_axis, options.labels_each});
  if (options.loss == "ctc" && options.precision != "fp32") fail(ErrorCode::kBadInput, "--loss ctc", "precision " + options.precision, "fp32: it adds up logarithms of many paths", "--precision fp32");
  f.graph.outputs = {loss.losses, f.logits};
  const auto gradients = backward(f.graph, {{f.logits, loss.gradient}}, wrt, fp8);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i] == kNoValue) fail(ErrorCode::kUnsupported, "weight '" + model.parameters()[learning_[i]].name + "'", "the loss does not depend on it", "a weight on the way to the output", "leave it out with --freeze");
    f.graph.outputs.push_back(gradients[i]);
  }
  f.graph.outputs.insert(f.graph.outputs.end(), f.batch_statistics.begin(), f.batch_statistics.end());
  f.graph.name += ".step";
  recomputed_ = recompute(f.graph, forward_nodes, options.recompute);
  prune_and_sort(f.graph);
  if (fp8) round_to_fp8(f.graph, loss.gradient);
  step_inputs_ = read_copies(f.graph, f.parameters, copy_type());
  forward_backward_ = compile_graph(std::move(f.graph), precision, options, Effort::kThorough);
  if (options.accumulate > 1) addition_ = compile_graph(addition_graph(shapes), "fp32", options);
  ForwardGraph e = model.forward(false);
  e.graph.name += ".evaluation";
  for (size_t i = 0; i < e.parameters.size(); ++i) {
    if (narrow_[i]) e.graph.value(e.parameters[i]).type = DType::kBF16;
  }
  prune_and_sort(e.graph);
  evaluation_inputs_ = read_copies(e.graph, e.parameters, copy_type());
  evaluation_ = compile_graph(std::move(e.graph), precision, options, Effort::kThorough);
  for (const auto* list : {&step_inputs_, &evaluation_inputs_}) {
    for (const WeightInput& in : *list) {
      if (in.copy) copied_.push_back(in.weight);
    }
  }
  std::sort(copied_.begin(), copied_.end());
  copied_.erase(std::unique(copied_.begin(), copied_.end()), copied_.end());
  update_ = compile_graph(whole_update(shapes), "fp32", options);
}

/// The optimiser's update of what learns, with the copies of it that programs read, and that of the running statistics.
Graph TrainingPrograms::whole_update(const std::vector<Shape>& shapes) const {
  std::vector<bool> narrow;
  std::vector<size_t> copied;  // by position among what learns
  for (size_t k = 0; k < learning_.size(); ++k) {
    narrow.push_back(narrow_[learning_[k]]);
    if (std::binary_search(copied_.begin(), copied_.end(), learning_[k])) copied.push_back(k);
  }
  Graph update = update_graph(options_.optimizer, shapes, options_.precision == "fp16", narrow, copied, copy_type());
  add_statistics(update, model_);
  return update;
}

/// Of weights with fp32 masters; fp32 where there are none.
DType TrainingPrograms::copy_type() const { return options_.precision == "bf16" ? DType::kBF16 : options_.precision == "fp16" ? DType::kF16 : DType::kF32; }

/// Matrices and kernels are operands of products, which have two bytes anyway; vectors (biases, scales) are added to fp32 sums.
void TrainingPrograms::find_narrow(ForwardGraph& f) {
  narrow_.assign(f.parameters.size(), false);
  if (options_.weights == "fp32") return;
  if (options_.weights != "bf16") fail(ErrorCode::kBadInput, "--weights", "'" + options_.weights + "'", "fp32 or bf16");
  if (model_.quantised()) fail(ErrorCode::kBadInput, "--weights bf16", "a quantised model", "a float model");
  if (options_.precision != "bf16" && options_.precision != "fp8") fail(ErrorCode::kBadInput, "--weights bf16", "precision " + options_.precision, "bf16 or fp8");
  for (size_t i = 0; i < narrow_.size(); ++i) {
    Value& parameter = f.graph.value(f.parameters[i]);
    narrow_[i] = parameter.shape.size() >= 2;
    if (narrow_[i]) parameter.type = DType::kBF16;
  }
}

std::vector<HostValue> TrainingPrograms::read_weights(const TrainingState& state, const std::vector<WeightInput>& inputs) const {
  std::vector<HostValue> list;
  for (const auto& [i, copy] : inputs) list.emplace_back(copy ? state.copies[i] : narrow_[i] ? converted(state.weights[i], DType::kBF16) : state.weights[i]);
  return list;
}

void TrainingPrograms::make_copies(TrainingState& state) const {
  state.copies.assign(state.weights.size(), {});
  for (size_t i : copied_) state.copies[i] = converted(state.weights[i], copy_type());
}

TrainingState TrainingPrograms::initial_state() const {
  TrainingState s{model_.initial_parameters(), {}, model_.initial_statistics(), {}, {}};
  for (size_t i = 0; i < s.weights.size(); ++i) {
    if (narrow_[i]) s.weights[i] = converted(converted(s.weights[i], DType::kBF16), DType::kF32);
  }
  if (options_.precision == "fp16") s.scaling = {Tensor::from_floats({options_.loss_scale, 0}, {2})};
  for (size_t i : learning_) {
    for (const Shape& shape : states_of(options_.optimizer, s.weights[i].shape)) s.states.emplace_back(DType::kF32, shape);
  }
  make_copies(s);
  return s;
}

TrainingPrograms::StepResult TrainingPrograms::step(TrainingState& state, const std::vector<Batch>& batches, float scale, double rate, int64_t step) {
  StepResult r;
  const float loss_scale = state.scaling.empty() ? 1.0f : state.scaling[0].load<float>(0);
  std::vector<Tensor> statistics;
  for (const Batch& batch : batches) {
    std::vector<HostValue> in(batch.data.begin(), batch.data.end());
    const auto weights = read_weights(state, step_inputs_);
    in.insert(in.end(), weights.begin(), weights.end());
    for (size_t k = 0; k < masks_.size(); ++k) in.emplace_back(mask_of(masks_[k].shape, masks_[k].ratio, options_.seed, step, static_cast<size_t>(&batch - batches.data()), k));
    in.emplace_back(batch.targets), in.emplace_back(Tensor::from_floats({scale * loss_scale}, {1}));
    std::vector<Tensor> out = run_all(forward_backward_, in);
    for (int64_t i = 0; i < out[0].count(); ++i) r.loss += out[0].at(i);
    r.logits.push_back(std::move(out[1]));
    const auto first = out.begin() + 2, last = first + static_cast<long>(learning_.size());
    std::vector<Tensor> gradients(first, last);
    if (!r.gradients.empty()) {
      std::vector<HostValue> sum;
      append(sum, r.gradients);
      append(sum, gradients);
      gradients = run_all(addition_, sum);
    }
    r.gradients = std::move(gradients);
    statistics.assign(last, out.end());
  }
  r.loss *= static_cast<double>(scale);
  if (!state.scaling.empty()) {
    r.skipped = !all_finite(r.gradients);
    adapt(state.scaling[0], !r.skipped);
    if (r.skipped) return r;
  }
  const auto [c1, c2] = corrections(options_.optimizer, step);
  std::vector<HostValue> u = {HostValue(Tensor::from_floats({static_cast<float>(rate)}, {1})), HostValue(Tensor::from_floats({c1}, {1})), HostValue(Tensor::from_floats({c2}, {1}))};
  if (!state.scaling.empty()) u.emplace_back(Tensor::from_floats({1 / loss_scale}, {1}));
  for (size_t i : learning_) u.emplace_back(narrow_[i] ? converted(state.weights[i], DType::kBF16) : state.weights[i]);
  append(u, r.gradients);
  append(u, state.states);
  for (size_t i : learning_) {
    if (narrow_[i]) u.emplace_back(bytes_of_weight(state.weights[i].shape, options_.seed, step, i));
  }
  append(u, state.statistics);
  append(u, statistics);
  std::vector<Tensor> now = run_all(update_, u);
  auto next = now.begin();
  for (size_t i : learning_) state.weights[i] = converted(*next++, DType::kF32);
  for (Tensor& t : state.states) t = std::move(*next++);
  for (size_t i : copied_) {
    if (!model_.parameters()[i].frozen) state.copies[i] = std::move(*next++);
  }
  for (Tensor& t : state.statistics) t = std::move(*next++);
  return r;
}

Tensor TrainingPrograms::evaluate(const TrainingState& state, const std::vector<Tensor>& data) const {
  std::vector<HostValue> in(data.begin(), data.end());
  const auto weights = read_weights(state, evaluation_inputs_);
  in.insert(in.end(), weights.begin(), weights.end());
  append(in, state.statistics);
  return run_all(evaluation_, in)[0];
}

}  // namespace systole
