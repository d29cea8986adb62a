// ONNX Runtime's shared library, where there is one: the same model on this CPU, measured.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct CpuMeasurement {
  std::string runtime;               ///< name and version
  double median_s = 0, spread = 0;   ///< spread: (90th - 10th percentile) / median
  int64_t runs = 0;
  double joules_per_run = 0;         ///< of the packages, by RAPL; 0: not readable
};

/// Runs the model for about `seconds` with `threads` threads. Fails (kNotFound) where no library is found: in
/// SYSTOLE_ONNXRUNTIME, among the system's libraries, or where scripts/install_onnxruntime.sh put it; kUnsupported with the
/// runtime's own words when it refuses the model.
CpuMeasurement measure_onnxruntime(const std::string& onnx_path, const std::vector<NamedTensor>& inputs, const std::vector<std::string>& outputs, int threads, double seconds);

}  // namespace systole
