// The importer, the passes and the partition between NPU and host on arbitrary bytes.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "import/onnx.h"
#include "host/host.h"
#include "passes/partition.h"
#include "passes/pipeline.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace systole;
  try {
    Graph graph = import_onnx_bytes(data, size, "fuzz", "", {});
    // Lowering a graph of large tensors is slow, not wrong.
    for (const Value& v : graph.values) {
      if (v.shape_known && element_count(v.shape) > (1 << 16)) return 0;
    }
    host_limits() = {1 << 16, 1000};
    FrontResult front = run_onnx_passes(std::move(graph), "auto");
    partition(std::move(front.graph), front.policy);
  } catch (const Failure&) {
  }
  return 0;
}
