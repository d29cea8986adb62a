// What a model asks of any processor: operations and bytes, per fused primitive. The same list for every processor that is
// modelled.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "systole/systole.h"

namespace systole {

enum class WorkKind : uint8_t { kMatmul, kConv, kDepthwise, kStream };

/// One kernel. Operations: two per multiply-add.
struct WorkItem {
  WorkKind kind = WorkKind::kStream;
  double operations = 0, activation_bytes = 0, weight_bytes = 0;
  double rows = 0, columns = 0;  ///< outputs: pixels and channels
};

/// Of a graph of primitives after fuse_maps. A view costs nothing; a map that follows a contraction is fused into it.
std::vector<WorkItem> workload_of(const Graph& primitives);
/// Of everything in a model file that the NPU can run, whole or in regions.
std::vector<WorkItem> workload_of_model(const std::string& path, const CompileOptions& options);

}  // namespace systole
