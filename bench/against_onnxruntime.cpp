// The functional execution of a model against ONNX Runtime on the same file, same inputs, same threads, in alternating
// rounds. Prints one table row per model and thread count: medians, and the ratio peer / ours with its spread.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "base/file.h"
#include "compare/onnxruntime.h"
#include "import/onnx.h"
#include "runtime/inputs.h"
#include "runtime/npy.h"
#include "systole/systole.h"

namespace systole {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> models;
  std::vector<int> threads = {2, 1};
  std::string npu = "edge";
  int rounds = 11, runs = 5;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

/// The fastest of a few runs: what the machine does undisturbed.
template <class F>
double best_of(int runs, F once) {
  double best = once();
  for (int i = 1; i < runs; ++i) best = std::min(best, once());
  return best;
}

/// Recorded inputs beside the model (MODEL.in.0.npy, ...), by input name; empty where there are none.
std::map<std::string, Tensor> recorded_inputs(const std::string& path) {
  std::map<std::string, Tensor> inputs;
  const Bytes bytes = map_file(path);
  const std::string stem = std::filesystem::path(path).replace_extension().string();
  int i = 0;
  for (const std::string& name : input_names(bytes.data(), bytes.size(), path)) {
    const std::string file = stem + ".in." + std::to_string(i++) + ".npy";
    if (file_exists(file)) inputs[name] = read_npy(file);
  }
  return inputs;
}

void row(const std::string& path, int threads, const Options& o) {
  const std::string name = std::filesystem::path(path).stem().string();
  set_threads(threads);
  const auto recorded = recorded_inputs(path);
  CompileOptions options{.npu = o.npu};
  for (const auto& [input, t] : recorded) options.input_shapes[input] = t.shape;
  const Compiled model = compile(path, options).value().model;
  std::vector<Tensor> inputs;
  std::vector<NamedTensor> named;
  uint64_t seed = 1;
  for (const TensorInfo& i : inputs_of(model)) {
    const auto at = recorded.find(i.name);
    inputs.push_back(at != recorded.end() ? at->second : random_input(i, seed));
    ++seed;
    named.push_back({i.name, inputs.back()});
  }
  std::vector<std::string> outputs;
  for (const TensorInfo& i : outputs_of(model)) outputs.push_back(i.name);
  OnnxRuntimeSession peer(path, named, outputs, threads);
  auto ours = [&] {
    const auto begin = Clock::now();
    run(model, inputs).value();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  auto theirs = [&] { return peer.run(); };
  best_of(2, ours), best_of(2, theirs);  // translation, packing, first touches
  std::vector<double> a, b, ratios;
  for (int i = 0; i < o.rounds; ++i) {
    b.push_back(best_of(o.runs, theirs));
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // its threads spin for a while after a run
    a.push_back(best_of(o.runs, ours));
    ratios.push_back(b.back() / a.back());
  }
  std::sort(ratios.begin(), ratios.end());
  const size_t tenth = ratios.size() / 10;
  fmt::print("| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} to {:.2f} |\n", name, threads, median(b) * 1e3, median(a) * 1e3, median(ratios), ratios[tenth], ratios[ratios.size() - 1 - tenth]);
  std::fflush(stdout);
}

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Functional execution against ONNX Runtime");
  app.add_option("models", o.models, "ONNX files")->required()->check(CLI::ExistingFile);
  app.add_option("--threads", o.threads, "thread counts")->delimiter(',')->capture_default_str();
  app.add_option("--npu", o.npu, "machine whose program is executed")->capture_default_str();
  app.add_option("--rounds", o.rounds, "alternating rounds")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--runs", o.runs, "runs a round; the fastest counts")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fmt::print("| model | threads | ONNX Runtime ms | Systole ms | ratio | 10th to 90th percentile |\n|---|---|---|---|---|---|\n");
  for (const std::string& m : o.models) {
    for (int t : o.threads) {
      try {
        row(m, t, o);
      } catch (const std::exception& e) {
        const std::string why = e.what();
        fmt::print("| {} | {} | | | | {} |\n", std::filesystem::path(m).stem().string(), t, why.substr(0, why.find('\n')));
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace systole

int main(int argc, char** argv) { return systole::main(argc, argv); }
