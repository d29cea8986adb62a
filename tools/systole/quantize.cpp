// systole quantize: a float model to a QDQ model, calibrated on samples.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "data_options.h"

namespace systole::cli {
namespace {

struct Options {
  ModelOptions model;
  DataArguments data;
  QuantizeOptions quantize;
  std::string out, json;
  bool no_equalise = false, no_bias = false;
};

void execute(Options o) {
  if (o.data.data.data.empty() && o.quantize.random_samples == 0) fail(ErrorCode::kBadInput, "systole quantize", "no samples", "--data, or --random N to see what the result takes");
  o.quantize.data = o.data.data;
  o.quantize.equalise = !o.no_equalise, o.quantize.bias_correction = !o.no_bias;
  const bool terminal = isatty(STDERR_FILENO);
  if (terminal) {
    o.quantize.progress = [](const std::string& text) { std::fprintf(stderr, "\r%-70s", text.c_str()); };
  }
  std::string path = o.out;
  if (path.empty()) path = (o.model.model.ends_with(".onnx") ? o.model.model.substr(0, o.model.model.size() - 5) : o.model.model) + "-" + o.quantize.weights + ".onnx";
  const QuantizeReport r = quantize_model(o.model.model, path, o.model.compile_options(), o.quantize).value();
  if (terminal) std::fprintf(stderr, "\r%-70s\r", "");
  if (o.json != "-") {
    fmt::print("{}: {} layers in {}, ranges by {} over {} samples\n", path, r.layers, o.quantize.weights, o.quantize.method, r.samples);
    fmt::print("  weights      {} to {} bytes; {} pairs of layers equalised\n", r.weight_bytes_before, r.weight_bytes, r.equalised_pairs);
    if (r.accuracy >= 0) fmt::print("  top-1        {:.2f} % in float, {:.2f} % quantised: {:+.2f} points\n", r.float_accuracy, r.accuracy, r.accuracy - r.float_accuracy);
    fmt::print("  agreement    {:.2f} % of the samples keep their top-1; outputs have {:.1f} dB of SQNR\n", r.agreement, r.sqnr_db);
    for (const auto& l : r.float_layers) fmt::print("  float        {}\n", l);
  }
  if (!o.json.empty()) {
    const nlohmann::json j = {{"file", path}, {"weights", o.quantize.weights}, {"samples", r.samples}, {"layers", r.layers}, {"float_layers", r.float_layers}, {"equalised_pairs", r.equalised_pairs}, {"float_accuracy", r.float_accuracy},
                              {"accuracy", r.accuracy}, {"agreement", r.agreement}, {"sqnr_db", r.sqnr_db}, {"weight_bytes_before", r.weight_bytes_before}, {"weight_bytes", r.weight_bytes}};
    write_text(o.json, j.dump(2) + "\n");
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("quantize", "Quantise a float model on calibration data; the result is standard QDQ ONNX");
  o->model.add_to(*c);
  o->data.data.samples = 100;
  o->data.add_to(*c, "--calibrate,--data");
  c->add_option("--random", o->quantize.random_samples, "so many random samples in place of --data: to see what the result takes, not what it is worth")->check(CLI::Range(1, 1 << 20));
  c->add_option("--out,-o", o->out, "file [MODEL-int8.onnx]");
  c->add_option("--method", o->quantize.method, "ranges of activations: minmax, percentile, mse, entropy")->capture_default_str();
  c->add_option("--weights", o->quantize.weights, "int8 (with uint8 activations) or int4 (weights alone, in groups)")->capture_default_str();
  c->add_option("--group", o->quantize.group, "group of int4 weights along the contracted axis")->capture_default_str();
  c->add_option("--max-drop", o->quantize.max_drop, "points of top-1 that may be lost: the most sensitive layers stay in float until it holds");
  c->add_flag("--no-equalise", o->no_equalise, "leave the scales of channels between layers as they are");
  c->add_flag("--no-bias-correction", o->no_bias, "leave biases as they are");
  c->add_option("--json", o->json, "write the report as JSON to a file, or - for standard output");
  c->footer("Examples:\n  systole quantize model.onnx --calibrate pictures/ -o model-int8.onnx\n  systole quantize mnist.onnx --calibrate t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz --image-scale 1 --method mse --max-drop 0.5");
  c->callback([o] { execute(*o); });
}

}  // namespace systole::cli
