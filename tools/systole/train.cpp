// systole train: forward, backward and update as NPU programs.
#include <fmt/format.h>
#include <unistd.h>

#include "data_options.h"

namespace systole::cli {
namespace {

struct Options {
  ModelOptions model;
  TrainOptions train;
  DataArguments data;
  PictureOptions pictures;
  bool profile = false;
  std::string out = "trained.onnx", json, freeze, validation_labels;
};

std::string text_of(const TrainReport& r) {
  const double ms = 1e3 * r.step_s / static_cast<double>(std::max<int64_t>(1, r.step_cycles + r.update_cycles));
  std::string t = fmt::format("{} parameters, {} steps{}; {}\n", r.parameters, r.steps, r.resumed_at ? fmt::format(" (from the checkpoint at {})", r.resumed_at) : "", r.precision);
  t += fmt::format("  a step on the NPU: forward and backward {:.4g} ms ({:.1f} % of their bound; forward alone {:.4g} ms), update {:.4g} ms, {:.4g} mJ with DRAM; {:.2f} MiB of DRAM\n", ms * static_cast<double>(r.step_cycles), 100 * r.step_efficiency, ms * static_cast<double>(r.forward_cycles),
                   ms * static_cast<double>(r.update_cycles), 1e3 * r.step_j, static_cast<double>(r.memory_bytes) / 1048576);
  if (r.recomputed_nodes) t += fmt::format("  {} nodes computed again in backward, {} segments\n", r.recomputed_nodes, r.recompute_segments);
  if (r.host_nodes) t += fmt::format("  {} nodes of a step run on the host\n", r.host_nodes);
  t += fmt::format("  last loss {:.5g}", r.loss);
  if (r.validation_accuracy >= 0) t += fmt::format(", validation accuracy {:.2f} %", r.validation_accuracy);
  return t + fmt::format("; {:.1f} s of this computer\n", r.host_s);
}

void show(const TrainProgress& p) {
  const int64_t bars = 30 * p.step / p.steps;
  std::fprintf(stderr, "\r[%-30s] %lld/%lld  loss %.4f%s%s  %.3g s, %.3g J simulated%s", std::string(static_cast<size_t>(bars), '#').c_str(), static_cast<long long>(p.step), static_cast<long long>(p.steps), p.loss,
               p.batch_accuracy >= 0 ? fmt::format("  batch {:.0f} %", p.batch_accuracy).c_str() : "", p.validation_accuracy >= 0 ? fmt::format("  validation {:.2f} %", p.validation_accuracy).c_str() : "",
               static_cast<double>(p.step) * p.step_s, static_cast<double>(p.step) * p.step_j, p.step == p.steps ? "\n" : "   ");
}

void execute(Options& o) {
  o.train.data = o.data.data;
  o.train.validation.image_scale = o.train.data.image_scale, o.train.validation.image_mean = o.train.data.image_mean, o.train.validation.image_std = o.train.data.image_std;
  if (isatty(STDERR_FILENO)) o.train.progress = show;
  o.train.compiled = [&](const Compiled& step, const Compiled& update) {
    if (o.profile) write_text("-", "forward and backward\n" + layer_table(profile(step).value()) + "update\n" + layer_table(profile(update).value()));
    if (!o.pictures.files.none()) write_pictures(step, o.pictures.files, {}, o.model.point).value();
  };
  const TrainReport r = train_model(o.model.model, o.out, o.model.compile_options(), o.train).value();
  if (o.json != "-") write_text("-", text_of(r) + o.out + "\n");
  if (!o.json.empty()) {
    write_text(o.json, fmt::format("{{\"steps\": {}, \"resumed_at\": {}, \"parameters\": {}, \"loss\": {:.9g}, \"validation_accuracy\": {:.6g}, \"forward_cycles\": {}, \"step_cycles\": {}, \"update_cycles\": {}, \"step_efficiency\": {:.6g}, \"step_s\": {:.9g}, "
                                   "\"step_j\": {:.9g}, \"memory_bytes\": {}, \"recomputed_nodes\": {}, \"host_nodes\": {}, \"host_s\": {:.3f}, \"precision\": \"{}\"}}\n",
                                   r.steps, r.resumed_at, r.parameters, r.loss, r.validation_accuracy, r.forward_cycles, r.step_cycles, r.update_cycles, r.step_efficiency, r.step_s, r.step_j, r.memory_bytes, r.recomputed_nodes, r.host_nodes, r.host_s, r.precision));
  }
}

}  // namespace

void add_train(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("train", "Train a model on the NPU: forward, backward and update as programs, bit-exact and timed");
  o->model.add_to(*c);
  c->get_option("--precision")->description("bf16 (auto), fp32, fp16 with a loss scale, or fp8 with a scale per tensor; master weights and update in fp32");
  o->data.add_to(*c, "--data");
  c->add_option("--random", o->train.random_samples, "so many random samples in place of --data: to see what a step takes");
  c->add_option("--validation", o->train.validation.data, "validation data; without it a share of --data");
  c->add_option("--validation-labels", o->train.validation.labels, "class of each validation sample");
  c->add_option("--validation-share", o->train.validation_share, "of --data, every so many samples")->capture_default_str();
  c->add_option("--loss", o->train.loss, "cross-entropy, mse, mae, huber, bce, dice, arcface (outputs are cosines), triplet (outputs are embeddings), ctc (outputs [batch, steps, classes], fp32)")->capture_default_str();
  c->add_option("--label-smoothing", o->train.label_smoothing, "share of each target spread over all classes")->capture_default_str()->check(CLI::Range(0.0, 0.99));
  c->add_option("--optimizer", o->train.optimizer, "sgd, adam, adamw, lamb, adafactor")->capture_default_str();
  c->add_option("--rate", o->train.learning_rate, "learning rate")->capture_default_str();
  c->add_option("--schedule", o->train.schedule, "constant, step, cosine")->capture_default_str();
  c->add_option("--warm-up", o->train.warm_up, "steps over which the rate rises")->capture_default_str();
  c->add_option("--momentum", o->train.momentum, "of sgd")->capture_default_str();
  c->add_flag("--nesterov", o->train.nesterov, "Nesterov's momentum");
  c->add_option("--beta1", o->train.beta1, "of adam, adamw, lamb")->capture_default_str();
  c->add_option("--beta2", o->train.beta2, "of adam, adamw, lamb")->capture_default_str();
  c->add_option("--weight-decay", o->train.weight_decay, "")->capture_default_str();
  c->add_option("--clip-norm", o->train.clip_norm, "greatest norm of all gradients together; 0: any")->capture_default_str();
  c->add_option("--batch", o->train.batch, "samples that are in memory at once")->capture_default_str();
  c->add_option("--accumulate", o->train.accumulate, "batches whose gradients are added before an update: a larger batch in the memory of a smaller one")->capture_default_str();
  c->add_option("--recompute", o->train.recompute, "activations that backward computes again: none, block (each by itself), full (least memory), auto (until --memory holds)")->capture_default_str();
  c->add_option("--memory", o->train.memory_mib, "MiB for activations, with --recompute auto");
  c->add_option("--epochs", o->train.epochs, "")->capture_default_str();
  c->add_option("--steps", o->train.steps, "in place of epochs");
  c->add_option("--seed", o->train.seed, "of the order of samples")->capture_default_str();
  c->add_option("--weights", o->train.weights, "fp32: master weights; bf16: matrices without masters, rounded stochastically: less memory")->capture_default_str();
  c->add_option("--new-outputs", o->train.new_outputs, "replace the last layer by a new one of so many outputs: a trained model for other classes")->check(CLI::Range(1, 1 << 20));
  c->add_option("--loss-output", o->train.loss_output, "the output that the loss looks at, where a model has several");
  c->add_option("--freeze", o->train.freeze, "weights whose names begin so do not learn")->delimiter(',');
  c->add_option("--checkpoint", o->train.checkpoint, "file that holds the state; a run that was killed goes on from it");
  c->add_option("--checkpoint-every", o->train.checkpoint_every, "steps")->capture_default_str();
  c->add_option("--log", o->train.log, "a line per step: CSV, or objects in a .json or .jsonl file");
  c->add_flag("--profile", o->profile, "print each layer of a step's programs before they run, as systole profile does");
  o->pictures.add_to(*c);
  c->add_option("--out,-o", o->out, "the trained model")->capture_default_str();
  c->add_option("--json", o->json, "write the summary as JSON to a file, or - for standard output");
  c->footer("Example:\n  systole model lenet && systole train lenet.onnx --data train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz --epochs 2 --npu server\n"
            "  systole train lenet.onnx --random 32 --steps 1 --validation-share 0 --profile --report step.html");
  c->callback([o] { execute(*o); });
}

}  // namespace systole::cli
