// The public API in one page: compile a model for two machines, run it on one, compare latencies.
#include <algorithm>
#include <cstdio>
#include <systole/systole.h>

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "resnet8.onnx";
  if (argc < 2) systole::write_architecture("resnet8", path, 1, 0).value();

  systole::CompileOptions options;
  for (const char* npu : {"nano", "edge"}) {
    options.npu = npu;
    auto compiled = systole::compile(path, options);
    if (!compiled) {
      std::fprintf(stderr, "%s\n", compiled.error().text().c_str());
      return 1;
    }
    const auto model = compiled->model;
    systole::Tensor input(inputs_of(model)[0].type, inputs_of(model)[0].shape);
    for (int64_t i = 0; i < input.count(); ++i) input.set(i, 0.01 * static_cast<double>(i % 100));

    const auto outputs = systole::run(model, {input}).value();
    const auto report = systole::profile(model).value();
    int64_t best = 0;
    for (int64_t i = 0; i < outputs[0].count(); ++i) best = outputs[0].at(i) > outputs[0].at(best) ? i : best;
    std::printf("%-5s class %lld, %.3f ms, %.1f %% of the bound\n", npu, static_cast<long long>(best), report.latency_s * 1e3, 100 * report.efficiency);
  }
}
