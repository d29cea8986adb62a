// systole verify: what the NPU computes against a float reference, layer by layer, and on labelled data.
#include <fmt/format.h>

#include "data_options.h"
#include "runtime/npz.h"

namespace systole::cli {
namespace {

struct Options {
  ModelOptions model;
  DataArguments data;
  VerifyOptions verify;
  std::vector<std::string> inputs, expected;
  bool all = false;
};

void fill(std::map<std::string, std::shared_ptr<const Tensor>>& map, const std::vector<std::string>& list, const char* option) {
  for (const auto& text : list) {
    const auto [name, path] = split_pair(text);
    if (name.empty()) fail(ErrorCode::kBadInput, option, "'" + text + "'", "NAME=FILE.npy");
    map[name] = std::make_shared<const Tensor>(read_array(path, {name}));
  }
}

void print(const LayerVerdict& v) { fmt::print("  {:<44} {:<18} {:>9.6f} {:>11.4g} {:>8.1f}\n", v.name.size() > 44 ? v.name.substr(v.name.size() - 44) : v.name, v.op, v.cosine, v.max_abs, v.sqnr_db); }

void execute(Options o) {
  o.verify.data = o.data.data;
  fill(o.verify.inputs, o.inputs, "--input"), fill(o.verify.expected, o.expected, "--expect");
  const VerifyReport r = verify_model(o.model.model, o.model.compile_options(), o.verify).value();
  fmt::print("{}: {} layers against {}\n", o.model.model, r.layers.size(), o.verify.reference.empty() ? "its own values in fp32" : o.verify.reference);
  fmt::print("  {:<44} {:<18} {:>9} {:>11} {:>8}\n", "value", "operator", "cosine", "max error", "SQNR dB");
  for (size_t i = 0; i < r.layers.size(); ++i) {
    const bool interesting = o.all || static_cast<int>(i) == r.first_below || i + 5 >= r.layers.size() || r.layers[i].cosine < o.verify.least_cosine;
    if (interesting) print(r.layers[i]);
  }
  if (r.first_below >= 0) fmt::print("  first below a cosine of {}: {}\n", o.verify.least_cosine, r.layers[static_cast<size_t>(r.first_below)].name);
  else fmt::print("  every layer keeps a cosine of {}\n", o.verify.least_cosine);
  for (const auto& v : r.outputs) print(v);
  if (r.agreement >= 0) fmt::print("  samples      {}; {:.2f} % keep the reference's top-1\n", r.samples, r.agreement);
  if (r.accuracy >= 0) fmt::print("  top-1        {:.2f} %, the reference {:.2f} %\n", r.accuracy, r.reference_accuracy);
}

}  // namespace

void add_verify(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("verify", "Compare what the NPU computes with a float reference, layer by layer, and measure accuracy");
  o->model.add_to(*c);
  o->data.data.samples = 0;
  o->data.add_to(*c, "--data");
  c->add_option("--reference", o->verify.reference, "float model whose values have the same names [the model itself in fp32]");
  c->add_option("--input,-i", o->inputs, "one sample, NAME=FILE.npy (repeatable); otherwise the first of --data, or random");
  c->add_option("--expect", o->expected, "recorded output, NAME=FILE.npy (repeatable)");
  c->add_option("--least-cosine", o->verify.least_cosine, "bound of a layer")->capture_default_str();
  c->add_option("--seed", o->verify.seed, "seed of random inputs")->capture_default_str();
  c->add_flag("--all", o->all, "print every layer, not only the last and those below the bound");
  c->footer("Examples:\n  systole verify model-int8.onnx --reference model.onnx --data pictures/\n  systole verify model.onnx --input x=x.npy --expect y=y.npy");
  c->callback([o] { execute(*o); });
}

}  // namespace systole::cli
