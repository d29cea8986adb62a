// systole run: execute a model bit-exactly, time it, print results and the report.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>

#include "command.h"
#include "runtime/inputs.h"
#include "runtime/npy.h"
#include "runtime/npz.h"

namespace systole::cli {
namespace {

struct RunOptions {
  ModelOptions model;
  PictureOptions pictures;
  std::vector<std::string> inputs;
  std::string out, labels, json;
  int64_t random = -1;
  bool host_profile = false;
  std::string mean, std;
  ImageOptions image;
};

std::array<float, 3> triple(const std::string& text, const char* option) {
  std::array<float, 3> v{};
  std::istringstream in(text);
  std::string part;
  size_t n = 0;
  while (std::getline(in, part, ',')) {
    char* end = nullptr;
    const float f = std::strtof(part.c_str(), &end);
    if (n == 3 || part.empty() || *end) fail(ErrorCode::kBadInput, option, "'" + text + "'", "one number, or three with commas");
    v[n++] = f;
  }
  if (n != 1 && n != 3) fail(ErrorCode::kBadInput, option, "'" + text + "'", "one number, or three with commas");
  if (n == 1) v[1] = v[2] = v[0];
  return v;
}

/// Shapes of inputs from NumPy, which bind symbolic dimensions before compilation.
std::map<std::string, Shape> given_shapes(const RunOptions& o) {
  std::map<std::string, Shape> shapes;
  for (const auto& text : o.inputs) {
    const auto [name, path] = split_pair(text);
    if (!name.empty() && (path.ends_with(".npy") || is_npz(path))) shapes[name] = read_array(path, {name}).shape;
  }
  return shapes;
}

std::vector<Tensor> gather_inputs(const RunOptions& o, const std::vector<TensorInfo>& infos) {
  std::vector<Tensor> tensors(infos.size());
  std::vector<bool> given(infos.size(), false);
  for (const auto& text : o.inputs) {
    const auto [name, path] = split_pair(text);
    size_t at = infos.size();
    if (name.empty() && infos.size() == 1) at = 0;
    for (size_t i = 0; i < infos.size(); ++i) {
      if (infos[i].name == name) at = i;
    }
    if (at == infos.size()) {
      std::string names;
      for (const auto& i : infos) names += (names.empty() ? "" : ", ") + i.name;
      fail(ErrorCode::kNotFound, "--input " + text, name.empty() ? "no input name for a model with several inputs" : "no input '" + name + "'", names);
    }
    tensors[at] = read_input(path, infos[at], o.image);
    given[at] = true;
  }
  for (size_t i = 0; i < infos.size(); ++i) {
    if (given[i]) continue;
    if (o.random < 0) fail(ErrorCode::kBadInput, "input '" + infos[i].name + "'", "not given", "--input " + infos[i].name + "=FILE, or --random SEED", "");
    tensors[i] = random_input(infos[i], static_cast<uint64_t>(o.random) + i);
  }
  return tensors;
}

std::string describe_output(const TensorInfo& info, const Tensor& t, const std::vector<std::string>& labels) {
  std::string s = fmt::format("  {} {}{}", info.name, to_string(t.type), to_string(t.shape));
  const int64_t n = t.count();
  if (n == 0) return s + " (empty)\n";
  double lo = t.at(0), hi = lo, sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double v = t.at(i);
    lo = std::min(lo, v), hi = std::max(hi, v), sum += v;
  }
  s += fmt::format("  min {:.6g}, max {:.6g}, mean {:.6g}\n", lo, hi, sum / static_cast<double>(n));
  if (labels.empty()) return s;
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(i)] = i;
  const size_t top = std::min<size_t>(5, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<long>(top), order.end(), [&](int64_t a, int64_t b) { return t.at(a) != t.at(b) ? t.at(a) > t.at(b) : a < b; });
  for (size_t k = 0; k < top; ++k) {
    const size_t i = static_cast<size_t>(order[k]);
    s += fmt::format("    {}. {:<40} {:.6g}\n", k + 1, i < labels.size() ? labels[i] : "class " + std::to_string(i), t.at(order[k]));
  }
  return s;
}

constexpr size_t kShapes = 12;  ///< of the host's work, printed

std::string describe_host(const HostProfile& p, double first_s) {
  std::string s = fmt::format("host profile, {} thread{}\n  first run {:.2f} ms (translation, packing of weights), then {:.2f} ms a run\n", p.threads, p.threads == 1 ? "" : "s", first_s * 1e3, p.run_s * 1e3);
  double sum = 0;
  for (const HostWork& w : p.work) sum += w.seconds;
  s += fmt::format("  {:<24}{:>10}{:>8}{:>10}\n", "kernels", "ms", "share", "tasks");
  for (const HostWork& w : p.work) s += fmt::format("  {:<24}{:>10.3f}{:>7.1f}%{:>10}\n", w.kind, w.seconds * 1e3, 100 * w.seconds / sum, w.tasks);
  s += fmt::format("  {:<24}{:>10.3f}          waiting, copies of inputs and outputs: {:.3f} ms\n", "sum over threads", sum * 1e3, (p.run_s * p.threads - sum) * 1e3);
  s += fmt::format("  {:<72}{:>10}{:>8}{:>10}{:>10}\n", "the slowest shapes", "ms", "share", "tasks", "G/s");
  for (size_t i = 0; i < std::min(kShapes, p.shapes.size()); ++i) {
    const HostWork& w = p.shapes[i];
    s += fmt::format("  {:<72}{:>10.3f}{:>7.1f}%{:>10}{:>10.1f}\n", w.kind + ": " + w.shape, w.seconds * 1e3, 100 * w.seconds / sum, w.tasks, w.operations / w.seconds * 1e-9);
  }
  return s;
}

void execute(const RunOptions& options) {
  RunOptions o = options;
  if (!o.mean.empty()) o.image.mean = triple(o.mean, "--image-mean");
  if (!o.std.empty()) o.image.std = triple(o.std, "--image-std");
  double compile_seconds = 0;
  const Compiled model = o.model.load(given_shapes(o), &compile_seconds);
  const auto inputs = gather_inputs(o, inputs_of(model));
  const auto begin = std::chrono::steady_clock::now();
  const auto outputs = run(model, inputs).value();
  const double run_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto timing_begin = std::chrono::steady_clock::now();
  Report report = profile(model, o.model.point).value();
  const double timing_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - timing_begin).count();
  o.pictures.write(model, o.model);
  std::vector<std::string> labels;
  if (!o.labels.empty()) {
    std::istringstream in(read_text(o.labels));
    for (std::string line; std::getline(in, line);) labels.push_back(line);
  }
  const auto infos = outputs_of(model);
  if (!o.out.empty()) {
    std::error_code ec;
    std::filesystem::create_directories(o.out, ec);
    if (ec) fail(ErrorCode::kIo, o.out, "cannot make the folder: " + ec.message());
    for (size_t i = 0; i < outputs.size(); ++i) write_npy(o.out + "/" + file_name_of(infos[i].name) + ".npy", outputs[i]);
  }
  if (o.json != "-") {
    std::string text = to_text(report) + fmt::format("  host          compiled in {:.3f} s, executed in {:.3f} s, timed in {:.3f} s\noutputs\n", compile_seconds, run_seconds, timing_seconds);
    for (size_t i = 0; i < outputs.size(); ++i) text += describe_output(infos[i], outputs[i], labels);
    if (o.host_profile) text += describe_host(profile_host(model, inputs).value(), run_seconds);
    write_text("-", text);
  }
  if (!o.json.empty()) write_text(o.json, to_json(report, fmt::format("{{\"compile_s\": {:.6f}, \"run_s\": {:.6f}, \"timing_s\": {:.6f}}}", compile_seconds, run_seconds, timing_seconds)));
}

}  // namespace

void add_run(CLI::App& app) {
  auto o = std::make_shared<RunOptions>();
  CLI::App* c = app.add_subcommand("run", "Execute a model on the NPU, bit-exactly, and report latency and utilisation");
  o->model.add_to(*c);
  o->model.add_batch_to(*c);
  c->add_option("--point", o->model.point, "operating point of the machine: other voltage and clock (systole machine NAME lists them)");
  c->add_option("--input,-i", o->inputs, "input data, NAME=FILE (repeatable; NAME may be left out for a single input): .npy, .npz (or FILE.npz:ARRAY), .bin, .png, .jpg, .bmp");
  c->add_option("--random", o->random, "seeded random data for inputs that are not given");
  c->add_option("--out,-o", o->out, "folder for the outputs, one NAME.npy each");
  c->add_option("--labels", o->labels, "text file with a class name per line: prints the top five");
  c->add_flag("--host-profile", o->host_profile, "also run it several times and print where this host's time goes");
  o->pictures.add_to(*c);
  c->add_option("--json", o->json, "write the report as JSON to a file, or - for standard output");
  c->add_option("--image-scale", o->image.scale, "pictures: pixel / SCALE before mean and deviation")->capture_default_str();
  c->add_option("--image-mean", o->mean, "pictures: mean per channel, e.g. 0.485,0.456,0.406");
  c->add_option("--image-std", o->std, "pictures: deviation per channel");
  c->add_flag("--image-bgr", o->image.bgr, "pictures: blue first");
  c->add_option("--image-resize", o->image.resize_shorter, "pictures: shorter side before the centre crop [crop x 256 / 224]");
  c->add_flag("--image-stretch", o->image.stretch, "pictures: stretch to the input instead of cropping");
  c->add_option("--image-layout", o->image.layout, "pictures: auto, nchw or nhwc")->capture_default_str();
  c->footer("Examples:\n  systole run resnet50.onnx --random 1\n  systole run mobilenet.onnx --input cat.jpg --image-mean 0.485,0.456,0.406 --image-std 0.229,0.224,0.225 --labels imagenet.txt\n"
            "  systole run model.npu --input x=data.npy --out results --json report.json");
  c->callback([o] { execute(*o); });
}

}  // namespace systole::cli
