// ONNX Runtime's shared library, where there is one: the same model on this CPU, measured.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "compare/measure.h"
#include "numerics/tensor.h"

namespace systole {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// A model loaded once, to be run many times on the same inputs. Fails like measure_onnxruntime.
class OnnxRuntimeSession {
 public:
  OnnxRuntimeSession(const std::string& onnx_path, std::vector<NamedTensor> inputs, std::vector<std::string> outputs, int threads);
  ~OnnxRuntimeSession();
  /// One run; returns its seconds.
  double run();
  const std::string& runtime() const;  ///< name and version

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Runs the model for about `seconds` with `threads` threads. Fails (kNotFound) where no library is found: at
/// SYSTOLE_ONNXRUNTIME; where that is not set, among the system's libraries, or where scripts/install_onnxruntime.sh put it; kUnsupported with the
/// runtime's own words when it refuses the model.
CpuMeasurement measure_onnxruntime(const std::string& onnx_path, const std::vector<NamedTensor>& inputs, const std::vector<std::string>& outputs, int threads, double seconds);

}  // namespace systole
