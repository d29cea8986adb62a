// CPUs and GPUs as rooflines, from processors/*.yaml.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "compare/workload.h"

namespace systole {

/// A published or measured figure for one model on this processor.
struct ProcessorPoint {
  std::string model, precision, source;
  int64_t batch = 1;
  double energy_j = 0, latency_s = 0;  ///< energy of an inference, latency of a batch; 0: not given
  double macs = 0;                     ///< of the model that it is a figure for, to know it by; 0: by its name alone
};

struct Processor {
  std::string key, name, kind;
  std::map<std::string, double> peak_ops;  ///< per second, by precision
  double bandwidth = 0;                    ///< bytes per second
  double busy_w = 0, idle_w = 0, busy_share = 0;
  double units = 1, tile_rows = 1, tile_columns = 1, launch_s = 0;
  double matmul = 1, conv = 1, depthwise = 1, stream = 1;  ///< efficiencies: of the peak, stream of the bandwidth
  std::vector<ProcessorPoint> published, measured;
  std::vector<std::string> sources;
};

/// A preset ("h200") or a .yaml file. Fails (kNotFound, kBadInput) with what was expected.
Processor load_processor(const std::string& name_or_path);
std::vector<std::string> processor_names();

/// Those of `points` that are for this model: of the longest name that its own begins with, and of as many multiply-adds (5 %).
std::vector<ProcessorPoint> points_of(const std::vector<ProcessorPoint>& points, const std::string& model, double macs);

struct Estimate {
  double latency_s = 0, power_w = 0, utilisation = 0;  ///< of a batch; utilisation of the peak
};
/// Roofline per kernel: max(operations / (peak x efficiency x filled units), bytes / (bandwidth x efficiency)) + launch.
/// Weights are read once for a batch.
Estimate estimate(const Processor& processor, const std::vector<WorkItem>& work, const std::string& precision, int64_t batch);

}  // namespace systole
