// Fits the efficiencies of a processor description to its measured points: coordinate descent on the mean squared logarithm of
// modelled / measured. Prints the fitted keys and what is left of each point.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "compare/processor.h"

namespace systole {
namespace {

struct Point {
  const ProcessorPoint* measured;
  const std::vector<WorkItem>* work;
};

/// Mean squared log of modelled / measured: latency, or power.
double misfit(const Processor& p, const std::vector<Point>& points, bool power) {
  double sum = 0;
  for (const Point& q : points) {
    const Estimate e = estimate(p, *q.work, q.measured->precision, q.measured->batch);
    const double watts = q.measured->energy_j * static_cast<double>(q.measured->batch) / q.measured->latency_s;
    const double d = std::log(power ? e.power_w / watts : e.latency_s / q.measured->latency_s);
    sum += d * d;
  }
  return sum / static_cast<double>(points.size());
}

/// Moves one value at a time by ever smaller factors while that helps.
void descend(Processor& p, const std::vector<Point>& points, const std::vector<std::pair<double*, double>>& values, bool power) {
  for (double factor = 2; factor > 1.01; factor = std::sqrt(factor)) {
    for (bool better = true; better;) {
      better = false;
      for (const auto& [value, most] : values) {
        for (double f : {factor, 1 / factor}) {
          const double before = *value, was = misfit(p, points, power);
          *value = std::min(most, before * f);
          if (misfit(p, points, power) < was * (1 - 1e-6)) better = true;
          else *value = before;
        }
      }
    }
  }
}

int main(int argc, char** argv) {
  std::string name;
  std::vector<std::string> without;
  CLI::App app("Fit a processor's roofline to its measured points");
  app.add_option("processor", name, "preset or .yaml file with measured points")->required();
  app.add_option("--without", without, "models that the fit leaves out")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  Processor p = load_processor(name);
  std::map<std::string, std::vector<WorkItem>> works;
  std::vector<Point> points;
  for (const ProcessorPoint& q : p.measured) {
    if (std::find(without.begin(), without.end(), q.model) != without.end()) continue;
    if (q.precision == "int8") continue;  // of kernels of our own: no measure of the vendor's
    const std::string file = std::filesystem::temp_directory_path() / (q.model + ".calibrate.onnx");
    if (!works.count(q.model)) {
      if (!write_architecture(q.model, file, 1, 0)) continue;
      CompileOptions o;
      o.precision = "bf16";
      works[q.model] = workload_of_model(file, o);
      std::filesystem::remove(file);
    }
    points.push_back({&q, &works[q.model]});
  }
  if (points.empty()) return fmt::print("{}: no measured points\n", name), 1;
  fmt::print("# as described: latency within a factor of {:.2f}, power {:.2f} (root mean square)\n", std::exp(std::sqrt(misfit(p, points, false))), std::exp(std::sqrt(misfit(p, points, true))));
  descend(p, points, {{&p.matmul, 1}, {&p.conv, 1}, {&p.depthwise, 1}, {&p.stream, 1}, {&p.launch_s, 1}}, false);
  descend(p, points, {{&p.busy_share, 1}}, true);
  fmt::print("launch_us: {:.2f}\nefficiency: {{matmul: {:.2f}, conv: {:.2f}, depthwise: {:.3f}, stream: {:.2f}}}\nbusy_share: {:.2f}\n", p.launch_s * 1e6, p.matmul, p.conv, p.depthwise, p.stream, p.busy_share);
  fmt::print("# modelled / measured over {} points: latency within a factor of {:.2f}, power {:.2f} (root mean square)\n", points.size(), std::exp(std::sqrt(misfit(p, points, false))), std::exp(std::sqrt(misfit(p, points, true))));
  for (const Point& q : points) {
    const Estimate e = estimate(p, *q.work, q.measured->precision, q.measured->batch);
    fmt::print("#   {:12} {} batch {:3}: latency x{:.2f}, power x{:.2f}\n", q.measured->model, q.measured->precision, q.measured->batch, e.latency_s / q.measured->latency_s, e.power_w * q.measured->latency_s / (q.measured->energy_j * static_cast<double>(q.measured->batch)));
  }
  return 0;
}

}  // namespace
}  // namespace systole

int main(int argc, char** argv) {
  try {
    return systole::main(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "calibrate: {}\n", e.what());
    return 1;
  }
}
