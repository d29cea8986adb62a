#include "compare/workload.h"

namespace systole {
namespace {

double bytes_of_value(const Graph& g, ValueId v) { return v == kNoValue ? 0 : static_cast<double>(element_count(g.value(v).shape) * bytes_of(g.value(v).type)); }

WorkItem contraction(const Graph& g, const Node& n, const Contract& c) {
  const Shape &out = g.value(n.outputs[0]).shape, &b = g.value(n.inputs[1]).shape;  // [N, OH, OW, Co], [Nb, G, KH, KW, C/G, Co/G]
  const double depth = static_cast<double>(c.kernel_h * c.kernel_w) * (c.depthwise ? 1 : static_cast<double>(c.b_transposed ? b[5] : b[4]));
  WorkItem w;
  w.kind = c.depthwise ? WorkKind::kDepthwise : c.kernel_h * c.kernel_w > 1 || out[1] * out[2] > 1 ? WorkKind::kConv : WorkKind::kMatmul;
  if (w.kind == WorkKind::kConv && c.kernel_h * c.kernel_w == 1) w.kind = WorkKind::kMatmul;
  w.operations = 2 * static_cast<double>(element_count(out)) * depth;
  w.rows = static_cast<double>(out[0] * out[1] * out[2]), w.columns = static_cast<double>(out[3]);
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kNoValue) continue;
    (g.value(n.inputs[i]).constant ? w.weight_bytes : w.activation_bytes) += bytes_of_value(g, n.inputs[i]);
  }
  return w;
}

}  // namespace

std::vector<WorkItem> workload_of(const Graph& g) {
  std::vector<WorkItem> list;
  std::vector<int> item_of(g.values.size(), -1);  // the contraction that makes a value
  const Uses uses(g);
  for (const Node& n : g.nodes) {
    if (std::holds_alternative<View>(n.op) || std::holds_alternative<Join>(n.op)) continue;
    if (const auto* c = std::get_if<Contract>(&n.op)) {
      item_of[static_cast<size_t>(n.outputs[0])] = static_cast<int>(list.size());
      list.push_back(contraction(g, n, *c));
      continue;
    }
    // The accumulators of a contraction that only this map reads never leave the chip: its epilogue.
    const int fused = !n.inputs.empty() && n.inputs[0] != kNoValue && uses.readers[static_cast<size_t>(n.inputs[0])].size() == 1 ? item_of[static_cast<size_t>(n.inputs[0])] : -1;
    if (fused < 0) list.emplace_back();
    WorkItem& w = list[fused < 0 ? list.size() - 1 : static_cast<size_t>(fused)];
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      if (i == 0 && fused >= 0) continue;
      w.activation_bytes += bytes_of_value(g, n.inputs[i]);
    }
    for (ValueId v : n.outputs) w.activation_bytes += bytes_of_value(g, v);
    if (const auto* m = std::get_if<Map>(&n.op)) w.operations += fused >= 0 ? 0 : static_cast<double>(element_count(m->extents)) * static_cast<double>(m->pre.size() + m->post.size());
  }
  for (size_t v = 0; v < item_of.size(); ++v) {
    // Accumulators that several nodes read are stored.
    if (item_of[v] >= 0 && uses.readers[v].size() != 1) list[static_cast<size_t>(item_of[v])].activation_bytes += bytes_of_value(g, static_cast<ValueId>(v));
  }
  return list;
}

}  // namespace systole
