// The functional execution of a model against ONNX Runtime on the same file, same inputs, same threads, in alternating
// rounds. Prints one table row per model and thread count: medians, and the ratio peer / ours with its spread.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "compare/onnxruntime.h"
#include "runtime/inputs.h"
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

void row(const std::string& path, int threads, const Options& o) {
  const std::string name = std::filesystem::path(path).stem().string();
  set_threads(threads);
  const Compiled model = compile(path, {.npu = o.npu}).value().model;
  std::vector<Tensor> inputs;
  std::vector<NamedTensor> named;
  uint64_t seed = 1;
  for (const TensorInfo& i : inputs_of(model)) {
    inputs.push_back(random_input(i, seed++));
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
        fmt::print("| {} | {} | | | | {} |\n", std::filesystem::path(m).stem().string(), t, e.what());
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace systole

int main(int argc, char** argv) { return systole::main(argc, argv); }
