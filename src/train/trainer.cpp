// train_model: epochs over shuffled data, validation, a log, checkpoints, and the trained model as ONNX.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "runtime/dataset.h"
#include "runtime/inputs.h"
#include "train/checkpoint.h"
#include "train/log.h"
#include "train/step.h"
#include "train/targets.h"

namespace systole {
namespace {

using Clock = std::chrono::steady_clock;

/// The same order for the same seed and epoch, on any standard library.
void shuffle(std::vector<size_t>& order, uint64_t seed, int64_t epoch) {
  std::mt19937_64 rng(seed * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng() % i]);
}

StepOptions step_options(const CompileOptions& c, const TrainOptions& o, int64_t class_axis, int64_t labels_each) {
  StepOptions s;
  s.class_axis = class_axis, s.labels_each = labels_each, s.accumulate = o.accumulate, s.seed = o.seed, s.weights = o.weights, s.recompute = {o.recompute, o.memory_mib << 20};
  s.npu = c.npu, s.precision = c.precision == "auto" ? "bf16" : c.precision, s.loss = o.loss, s.cache = c.cache;
  if (s.precision != "bf16" && s.precision != "fp32" && s.precision != "fp16" && s.precision != "fp8") fail(ErrorCode::kBadInput, "--precision", "'" + s.precision + "'", "bf16, fp32, fp16 or fp8 for training");
  s.optimizer = {o.optimizer, o.momentum, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.nesterov, o.clip_norm};
  return s;
}

class Trainer {
 public:
  Trainer(const std::string& path, const CompileOptions& c, const TrainOptions& o)
      : o_(o), model_(path, o.batch, takes_classes(o.loss), o.freeze, c, {o.new_outputs, o.seed, o.loss_output}), schedule_{o.schedule, o.learning_rate, o.warm_up, 1} {
    std::vector<TensorInfo> inputs;  // of one sample
    for (const Value& in : model_.inputs()) inputs.push_back({in.name, in.type, in.shape}), inputs.back().shape[0] = 1;
    data_ = o.random_samples > 0 ? random_data(inputs) : load_dataset(o.data, inputs, true);
    targets_ = std::make_unique<Targets>(o.loss, model_.logits_shape(), data_.labels_each, o.label_smoothing, o.data.labels);
    targets_->check(data_, o.data.labels.empty() ? o.data.data : o.data.labels);
    split(inputs);
    if (train_.size() < static_cast<size_t>(o.batch * o.accumulate)) fail(ErrorCode::kBadInput, "--data", std::to_string(train_.size()) + " samples to learn from", "at least a step's: " + std::to_string(o.batch * o.accumulate));
    steps_per_epoch_ = static_cast<int64_t>(train_.size()) / (o.batch * o.accumulate);
    report_.steps = o.steps > 0 ? o.steps : o.epochs * steps_per_epoch_;
    schedule_.steps = report_.steps;
    schedule_.at(0);  // an unknown name fails before the work
    programs_ = std::make_unique<TrainingPrograms>(model_, step_options(c, o, targets_->class_axis(), data_.labels_each));
    state_ = programs_->initial_state();
    const auto bytes = read_file(path);
    run_ = fmt::format("{:016x};{};{};{};{};{};{};{};{};{};{};{};{}", content_hash({reinterpret_cast<const char*>(bytes.data()), bytes.size()}), train_.size(), o.batch, o.seed, o.loss, o.optimizer, o.learning_rate, o.schedule,
                       o.warm_up, report_.steps, o.weight_decay, o.clip_norm, c.precision) +
           fmt::format(";{};{};{};{};{};{};{};{};{:016x}", o.accumulate, o.momentum, o.nesterov, o.beta1, o.beta2, o.epsilon, o.label_smoothing, c.npu, content_of_data());
    for (const std::string& name : o.freeze) run_ += ";" + name;
    if (o.new_outputs) run_ += fmt::format(";outputs={}", o.new_outputs);
    if (!o.loss_output.empty()) run_ += ";loss=" + o.loss_output;
    if (o.weights != "fp32") run_ += ";weights=" + o.weights;
    if (o.recompute != "none") run_ += fmt::format(";recompute={},{}", o.recompute, o.memory_mib);  // what is computed again rounds at other places
    measure();
  }

  TrainReport run(const std::string& out) {
    const int64_t from = resume();
    TrainingLog log(o_.log, from);
    const auto begin = Clock::now();
    for (int64_t step = from; step < report_.steps; ++step) {
      const auto r = one_step(step);
      report_.loss = r.loss;
      LogLine line{step, step / steps_per_epoch_, r.loss, batch_accuracy_, schedule_.at(step), static_cast<double>(step + 1) * report_.step_s, static_cast<double>(step + 1) * report_.step_j};
      const bool epoch_ends = (step + 1) % steps_per_epoch_ == 0 || step + 1 == report_.steps;
      if (epoch_ends && !validation_.empty()) line.validation_accuracy = report_.validation_accuracy = validate();
      log.add(line);
      if (!std::isfinite(r.loss)) fail(ErrorCode::kMismatch, "step " + std::to_string(step), "a loss that is no number", "a finite one", "a smaller --rate, or --clip-norm 1");
      if (!o_.checkpoint.empty() && ((step + 1) % o_.checkpoint_every == 0 || epoch_ends)) save(step + 1);
      if (o_.progress) o_.progress({step + 1, report_.steps, r.loss, batch_accuracy_, report_.validation_accuracy, report_.step_s, report_.step_j});
    }
    report_.host_s = std::chrono::duration<double>(Clock::now() - begin).count();
    if (from >= report_.steps && !validation_.empty()) report_.validation_accuracy = validate();
    model_.write(state_.weights, state_.statistics, fmt::format("Trained by systole train: {} steps, {} and {}.", report_.steps, o_.loss, o_.optimizer), out);
    return report_;
  }

 private:
  /// Samples that mean nothing: normal inputs, or tokens 0 and 1; a class per sample, pixel or token.
  Dataset random_data(const std::vector<TensorInfo>& inputs) const {
    Dataset d;
    const Shape y = model_.logits_shape();
    const int64_t classes = y.size() == 3 ? y[2] : y[1];
    const bool sequences = o_.loss == "ctc";
    if (takes_classes(o_.loss)) d.labels_each = element_count(y) / o_.batch / classes;
    if (sequences) d.labels_each = std::max<int64_t>(1, y[1] / 4);
    std::mt19937_64 rng(o_.seed);
    d.samples = random_samples(inputs, o_.random_samples, o_.seed);
    for (int64_t i = 0; i < o_.random_samples; ++i) {
      for (int64_t k = 0; k < d.labels_each; ++k) d.labels.push_back(sequences ? 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(std::max<int64_t>(1, classes - 1))) : static_cast<int64_t>(rng() % static_cast<uint64_t>(classes)));
    }
    return d;
  }

  /// Validation data of its own, or an even share of the data.
  void split(const std::vector<TensorInfo>& inputs) {
    if (!o_.validation.data.empty()) {
      validation_data_ = load_dataset(o_.validation, inputs, true);
      targets_->check(validation_data_, o_.validation.labels.empty() ? o_.validation.data : o_.validation.labels);
      train_.resize(data_.samples.size()), validation_.resize(validation_data_.samples.size());
      std::iota(train_.begin(), train_.end(), size_t{0}), std::iota(validation_.begin(), validation_.end(), size_t{0});
      return;
    }
    if (!(o_.validation_share >= 0 && o_.validation_share < 1)) fail(ErrorCode::kBadInput, "--validation-share", std::to_string(o_.validation_share), "0 to 0.9");
    double due = 0;
    for (size_t i = 0; i < data_.samples.size(); ++i) {
      due += o_.validation_share;
      if (due >= 1 - 1e-9) validation_.push_back(i), due -= 1;
      else train_.push_back(i);
    }
  }

  /// Identity of what is learnt from.
  uint64_t content_of_data() const {
    std::string hashes;
    for (size_t i : train_) {
      std::string bytes;
      for (const Tensor& t : data_.samples[i]) bytes.append(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
      const auto each = static_cast<size_t>(data_.labels_each);
      const auto hash = [&](const auto& list) { return content_hash({reinterpret_cast<const char*>(list.data() + i * each), sizeof list[0] * each}); };
      hashes += fmt::format("{:x}:{:x};", content_hash(bytes), data_.labels.empty() ? hash(data_.numbers) : hash(data_.labels));
    }
    return content_hash(hashes);
  }

  /// Cycles and joules of the programs, before anything runs.
  void measure() {
    if (o_.compiled) o_.compiled(programs_->forward_backward(), programs_->update());
    const Report step = profile(programs_->forward_backward()).value(), update = profile(programs_->update()).value();
    report_.parameters = 0;
    for (const Tensor& t : state_.weights) report_.parameters += t.count();
    report_.forward_cycles = profile(programs_->evaluation()).value().cycles;
    report_.step_cycles = step.cycles, report_.update_cycles = update.cycles;
    report_.step_efficiency = step.efficiency;
    const auto batches = static_cast<double>(o_.accumulate);
    report_.step_s = batches * step.latency_s + update.latency_s, report_.step_j = batches * step.energy.system_j + update.energy.system_j;
    if (o_.accumulate > 1) {
      const Report add = profile(programs_->addition()).value();
      report_.step_s += (batches - 1) * add.latency_s, report_.step_j += (batches - 1) * add.energy.system_j;
    }
    report_.memory_bytes = step.dram_footprint_bytes;
    report_.recomputed_nodes = static_cast<int64_t>(programs_->recomputed().nodes), report_.recompute_segments = programs_->recomputed().segments;
    report_.host_nodes = step.nodes_on_host + update.nodes_on_host;
    report_.precision = programs_->precision();
  }

  /// Of each input, the samples of a batch one after another; the last one again where there are no more.
  std::vector<Tensor> gather(const Dataset& d, const std::vector<size_t>& which, size_t from) const {
    std::vector<Tensor> batch;
    for (const Value& in : model_.inputs()) {
      Tensor& t = batch.emplace_back(in.type, in.shape);
      const size_t each = t.bytes.size() / static_cast<size_t>(o_.batch);
      for (size_t k = 0; k < static_cast<size_t>(o_.batch); ++k) {
        const Tensor& x = d.samples[which[std::min(from + k, which.size() - 1)]][batch.size() - 1];
        std::copy(x.bytes.begin(), x.bytes.end(), t.bytes.begin() + static_cast<long>(k * each));
      }
    }
    return batch;
  }

  TrainingPrograms::StepResult one_step(int64_t step) {
    const int64_t epoch = step / steps_per_epoch_;
    if (epoch != shuffled_epoch_) {
      order_ = train_;
      shuffle(order_, o_.seed, epoch);
      shuffled_epoch_ = epoch;
    }
    const size_t each = static_cast<size_t>(o_.batch), first = static_cast<size_t>(step % steps_per_epoch_ * o_.accumulate) * each;
    std::vector<TrainingPrograms::Batch> batches;
    int64_t rows = 0;
    for (size_t from = first; batches.size() < static_cast<size_t>(o_.accumulate); from += each) {
      batches.push_back({gather(data_, order_, from), targets_->make(data_, order_, from)});
      rows += targets_->counted(data_, order_, from);
    }
    auto r = programs_->step(state_, batches, static_cast<float>(1.0 / static_cast<double>(std::max<int64_t>(1, rows))), schedule_.at(step), step + 1);
    Targets::Score score;
    for (size_t k = 0; targets_->scored() && k < batches.size(); ++k) score.add(targets_->accuracy(r.logits[k], data_, order_, first + k * each, each));
    batch_accuracy_ = targets_->scored() ? score.percent() : -1;
    return r;
  }

  double validate() const {
    const Dataset& d = o_.validation.data.empty() ? data_ : validation_data_;
    if (!targets_->scored()) return -1;
    Targets::Score score;
    for (size_t from = 0; from < validation_.size(); from += static_cast<size_t>(o_.batch)) {
      const Targets::Score part = targets_->accuracy(programs_->evaluate(state_, gather(d, validation_, from)), d, validation_, from, std::min(static_cast<size_t>(o_.batch), validation_.size() - from));
      score.add(part);
    }
    return score.percent();
  }

  void save(int64_t step) const {
    Checkpoint c{run_, step, state_.weights};
    c.tensors.insert(c.tensors.end(), state_.states.begin(), state_.states.end());
    c.tensors.insert(c.tensors.end(), state_.statistics.begin(), state_.statistics.end());
    c.tensors.insert(c.tensors.end(), state_.scaling.begin(), state_.scaling.end());
    write_checkpoint(c, o_.checkpoint);
  }

  int64_t resume() {
    const auto c = o_.checkpoint.empty() ? std::nullopt : read_checkpoint(o_.checkpoint, run_);
    if (!c) return 0;
    size_t at = 0;
    for (auto* list : {&state_.weights, &state_.states, &state_.statistics, &state_.scaling}) {
      for (Tensor& t : *list) {
        if (at >= c->tensors.size() || c->tensors[at].shape != t.shape) fail(ErrorCode::kMismatch, o_.checkpoint, "tensors of other shapes", "those of this run");
        t = c->tensors[at++];
      }
    }
    programs_->make_copies(state_);
    report_.resumed_at = c->step;
    return c->step;
  }

  const TrainOptions& o_;
  const TrainableModel model_;
  std::unique_ptr<TrainingPrograms> programs_;
  RateSchedule schedule_;
  Dataset data_, validation_data_;
  std::vector<size_t> train_, validation_, order_;
  TrainingState state_;
  std::string run_;
  TrainReport report_;
  std::unique_ptr<Targets> targets_;
  int64_t steps_per_epoch_ = 1, shuffled_epoch_ = -1;
  double batch_accuracy_ = 0;
};

}  // namespace

Result<TrainReport> train_model(const std::string& onnx_path, const std::string& out_path, const CompileOptions& compile_options, const TrainOptions& options) {
  return catch_failures([&] {
    if (options.batch < 1 || options.epochs < 1 || options.steps < 0 || options.checkpoint_every < 1 || options.accumulate < 1 || options.new_outputs < 0) fail(ErrorCode::kBadInput, "training", "a batch, epochs or an interval of less than 1", "1 or more");
    return Trainer(onnx_path, compile_options, options).run(out_path);
  });
}

}  // namespace systole
