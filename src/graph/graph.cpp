#include "graph/graph.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"

namespace systole {

int64_t issue_slots(const std::vector<Operation>& operations) {
  int64_t slots = 0;
  for (const Operation& o : operations) slots += isa::micro_info(o.op).slots;
  return std::max<int64_t>(1, slots);
}
namespace {
template <class T>
const T* find(const OnnxOp& op, const char* name) {
  const auto it = op.attributes.find(name);
  if (it == op.attributes.end()) return nullptr;
  const T* v = std::get_if<T>(&it->second);
  if (!v) fail(ErrorCode::kBadInput, op.full_name() + "." + name, "an attribute of the wrong type", "the type that the operator's schema gives");
  return v;
}
}  // namespace

int64_t OnnxOp::integer(const char* name, int64_t otherwise) const {
  const auto* v = find<int64_t>(*this, name);
  return v ? *v : otherwise;
}
float OnnxOp::real(const char* name, float otherwise) const {
  const auto* v = find<float>(*this, name);
  return v ? *v : otherwise;
}
std::string OnnxOp::text(const char* name, const char* otherwise) const {
  const auto* v = find<std::string>(*this, name);
  return v ? *v : otherwise;
}
std::vector<int64_t> OnnxOp::integers(const char* name) const {
  const auto* v = find<std::vector<int64_t>>(*this, name);
  return v ? *v : std::vector<int64_t>{};
}

std::vector<float> OnnxOp::reals(const char* name) const {
  const auto* v = find<std::vector<float>>(*this, name);
  return v ? *v : std::vector<float>{};
}
std::vector<std::string> OnnxOp::texts(const char* name) const {
  const auto* v = find<std::vector<std::string>>(*this, name);
  return v ? *v : std::vector<std::string>{};
}
const Graph& OnnxOp::graph(const char* name) const {
  const auto* v = find<GraphPtr>(*this, name);
  if (!v) fail(ErrorCode::kBadInput, full_name() + "." + name, "no such attribute", "a graph");
  return **v;
}

std::string op_name(const Op& op) {
  return std::visit(Overload{[](const OnnxOp& o) { return o.full_name(); }, [](const Contract& c) { return std::string(c.depthwise ? "contract.depthwise" : "contract"); },
                             [](const Map&) { return std::string("map"); }, [](const Move&) { return std::string("move"); }, [](const View&) { return std::string("view"); }, [](const Join&) { return std::string("join"); }},
                    op);
}

ValueId Graph::add_value(std::string value_name, DType type, Shape shape) {
  values.push_back({std::move(value_name), type, std::move(shape), true, nullptr});
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_constant(std::string value_name, TensorPtr tensor) {
  values.push_back({std::move(value_name), tensor->type, tensor->shape, true, tensor});
  return static_cast<ValueId>(values.size() - 1);
}

namespace {
void copy_in_parts(const uint8_t* from, int64_t size, uint8_t* to) {
  parallel_for(size, int64_t{1} << 22, [&](int64_t begin, int64_t end) { copy_once(from + begin, static_cast<size_t>(end - begin), to + begin); });
}
}  // namespace

void own_constants(Graph& graph) {
  std::map<TensorPtr, TensorPtr> owned;  // by tensor, which several values may hold
  std::vector<std::pair<TensorPtr, std::shared_ptr<Tensor>>> copies;
  for (Value& v : graph.values) {
    if (!v.constant || !v.constant->bytes.shared()) continue;
    TensorPtr& own = owned[v.constant];
    if (!own) own = copies.emplace_back(v.constant, std::make_shared<Tensor>()).second;
    v.constant = own;
  }
  parallel_for(static_cast<int64_t>(copies.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      auto& [from, to] = copies[static_cast<size_t>(i)];
      const TensorBytes& shared = std::as_const(*from).bytes;
      const auto size = static_cast<int64_t>(shared.size());
      if (shared.later() || size != from->count() * bytes_of(from->type)) *to = *from, to->bytes.own();
      else *to = filled(from->type, from->shape, [&](uint8_t* at) { copy_in_parts(shared.data(), size, at); });
    }
  });
}

Uses::Uses(const Graph& graph) : readers(graph.values.size()), producer(graph.values.size(), -1), is_output(graph.values.size()) {
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (ValueId v : graph.nodes[n].inputs) {
      if (v != kNoValue) readers[static_cast<size_t>(v)].push_back(static_cast<int>(n));
    }
    for (ValueId v : graph.nodes[n].outputs) {
      if (v != kNoValue) producer[static_cast<size_t>(v)] = static_cast<int>(n);
    }
  }
  for (ValueId v : graph.outputs) is_output[static_cast<size_t>(v)] = true;
}

void prune_and_sort(Graph& graph) {
  const Uses uses(graph);
  // Depth-first from the outputs; 1 = on the stack, 2 = done. Explicit stack: models may be deeper than the C++ stack.
  std::vector<char> state(graph.nodes.size(), 0);
  std::vector<int> order;
  for (ValueId output : graph.outputs) {
    const int root = uses.producer[static_cast<size_t>(output)];
    if (root < 0 || state[static_cast<size_t>(root)] == 2) continue;
    std::vector<std::pair<int, size_t>> stack = {{root, 0}};
    state[static_cast<size_t>(root)] = 1;
    while (!stack.empty()) {
      auto& [n, next] = stack.back();
      const Node& node = graph.nodes[static_cast<size_t>(n)];
      if (next == node.inputs.size()) {
        state[static_cast<size_t>(n)] = 2;
        order.push_back(n);
        stack.pop_back();
        continue;
      }
      const ValueId in = node.inputs[next++];
      const int p = in == kNoValue ? -1 : uses.producer[static_cast<size_t>(in)];
      if (p < 0 || state[static_cast<size_t>(p)] == 2) continue;
      if (state[static_cast<size_t>(p)] == 1) {
        fail(ErrorCode::kBadInput, "graph '" + graph.name + "'", "node '" + graph.nodes[static_cast<size_t>(p)].name + "' depends on itself", "a graph without cycles");
      }
      state[static_cast<size_t>(p)] = 1;
      stack.push_back({p, 0});
    }
  }
  // Keep the model's own order among independent nodes: it is usually the better schedule.
  std::vector<bool> keep(graph.nodes.size());
  for (int n : order) keep[static_cast<size_t>(n)] = true;
  std::vector<int> position(graph.nodes.size());
  std::vector<bool> defined(graph.values.size(), false);
  bool in_order = true;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!keep[n]) continue;
    for (ValueId v : graph.nodes[n].inputs) in_order &= v == kNoValue || uses.producer[static_cast<size_t>(v)] < 0 || defined[static_cast<size_t>(v)];
    for (ValueId v : graph.nodes[n].outputs) {
      if (v != kNoValue) defined[static_cast<size_t>(v)] = true;
    }
  }
  if (in_order) std::sort(order.begin(), order.end());
  std::vector<Node> nodes;
  nodes.reserve(order.size());
  for (int n : order) nodes.push_back(std::move(graph.nodes[static_cast<size_t>(n)]));
  graph.nodes = std::move(nodes);
}

namespace {

void verify_map(const Graph& graph, const Node& node, const Map& map, const std::string& where) {
  const Value& out = graph.value(node.outputs[0]);
  SYSTOLE_CHECK(map.output_rank() == static_cast<int64_t>(out.shape.size()), where);
  SYSTOLE_CHECK(std::equal(out.shape.begin(), out.shape.end(), map.extents.begin()), where + to_string(out.shape) + to_string(map.extents));
  SYSTOLE_CHECK(map.accesses.size() == node.inputs.size() && map.accesses.size() <= isa::kVectorInputs, where);
  SYSTOLE_CHECK((map.reduced > 0) == (map.reduce != isa::Reduce::kNone), where);
  for (size_t i = 0; i < map.accesses.size(); ++i) {
    const Shape& shape = graph.value(node.inputs[i]).shape;
    const Access& access = map.accesses[i];
    SYSTOLE_CHECK(access.index.size() == shape.size(), where + " input " + std::to_string(i));
    if (access.guarded || element_count(map.extents) == 0) continue;
    for (size_t d = 0; d < shape.size(); ++d) {
      int64_t lo = access.index[d].offset, hi = lo;
      for (const IndexTerm& t : access.index[d].terms) {
        (t.coefficient < 0 ? lo : hi) += t.coefficient * (map.extents[static_cast<size_t>(t.loop)] - 1);
      }
      SYSTOLE_CHECK(lo >= 0 && hi < shape[d], where + " input " + std::to_string(i) + " dimension " + std::to_string(d));
    }
  }
}

void verify_move(const Graph& graph, const Node& node, const Move& move, const std::string& where) {
  auto inside = [](const CopyRegion& r, int64_t offset, const std::vector<int64_t>& strides, int64_t count) {
    int64_t lo = offset, hi = offset;
    for (size_t d = 0; d < r.extents.size(); ++d) (strides[d] < 0 ? lo : hi) += strides[d] * (r.extents[d] - 1);
    return lo >= 0 && hi < count;
  };
  for (const CopyRegion& r : move.regions) {
    if (element_count(r.extents) == 0) continue;
    SYSTOLE_CHECK(r.dst_strides.size() == r.extents.size() && inside(r, r.dst_offset, r.dst_strides, element_count(graph.value(node.outputs[0]).shape)), where);
    if (r.input < 0) continue;
    const Value& in = graph.value(node.inputs[static_cast<size_t>(r.input)]);
    SYSTOLE_CHECK(in.type == graph.value(node.outputs[0]).type, where);
    SYSTOLE_CHECK(r.src_strides.size() == r.extents.size() && inside(r, r.src_offset, r.src_strides, element_count(in.shape)), where);
  }
}

void verify_contract(const Graph& graph, const Node& node, const Contract& c, const std::string& where) {
  const Shape &a = graph.value(node.inputs[0]).shape, &b = graph.value(node.inputs[1]).shape, &out = graph.value(node.outputs[0]).shape;
  SYSTOLE_CHECK(a.size() == 4 && b.size() == 6 && out.size() == 4, where);
  SYSTOLE_CHECK(a[0] == out[0] && (b[0] == 1 || b[0] == a[0]) && b[1] == (c.depthwise ? 1 : c.groups) && b[2] == c.kernel_h && b[3] == c.kernel_w, where + to_string(a) + to_string(b));
  SYSTOLE_CHECK(!c.b_transposed || c.kernel_h * c.kernel_w == 1, where + ": a transposed B with several taps");
  const int64_t k = b[c.b_transposed ? 5 : 4], n = b[c.b_transposed ? 4 : 5];
  if (c.group_rows) {
    SYSTOLE_CHECK(node.inputs.size() == 5 && c.format != MacFormat::kInt8 && !c.b_transposed && !c.depthwise && element_count(b) == k * n && k % c.group_rows == 0, where);
    for (size_t i = 3; i < 5; ++i) SYSTOLE_CHECK(graph.value(node.inputs[i]).constant && graph.value(node.inputs[i]).shape == (Shape{k / c.group_rows, n}), where);
    SYSTOLE_CHECK(graph.value(node.inputs[1]).constant && (graph.value(node.inputs[3]).type == DType::kF32 || graph.value(node.inputs[3]).type == DType::kF16) && graph.value(node.inputs[4]).type == graph.value(node.inputs[1]).type, where);
  }
  if (c.depthwise) SYSTOLE_CHECK(k == 1 && n == out[3] && out[3] % a[3] == 0, where);
  else SYSTOLE_CHECK(k * c.groups == a[3] && n * c.groups == out[3], where + to_string(a) + to_string(b) + to_string(out));
}

/// What a contract makes lies in the accumulators: a map reads it, and nothing else does.
void verify_drains(const Graph& graph, const char* after) {
  std::vector<bool> accumulators(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    for (ValueId v : node.inputs) SYSTOLE_CHECK(v == kNoValue || !accumulators[static_cast<size_t>(v)] || std::holds_alternative<Map>(node.op), std::string(after) + ": node '" + node.name + "' reads accumulators");
    if (std::holds_alternative<Contract>(node.op)) accumulators[static_cast<size_t>(node.outputs[0])] = true;
  }
  for (ValueId v : graph.outputs) SYSTOLE_CHECK(!accumulators[static_cast<size_t>(v)], std::string(after) + ": output '" + graph.value(v).name + "' lies in accumulators");
}

}  // namespace

int64_t multiply_adds(const Graph& graph, const Node& contract) {
  const auto& c = std::get<Contract>(contract.op);
  return element_count(graph.value(contract.outputs[0]).shape) * c.kernel_h * c.kernel_w * graph.value(contract.inputs[1]).shape[c.b_transposed ? 5 : 4];
}

void verify(const Graph& graph, const char* after) {
  std::vector<bool> defined(graph.values.size(), false);
  for (size_t v = 0; v < graph.values.size(); ++v) defined[v] = graph.values[v].constant != nullptr;
  for (ValueId v : graph.inputs) defined[static_cast<size_t>(v)] = true;
  for (const Node& node : graph.nodes) {
    const std::string where = std::string(after) + ": node '" + node.name + "' (" + op_name(node.op) + ")";
    for (ValueId v : node.inputs) SYSTOLE_CHECK(v == kNoValue || (v >= 0 && v < static_cast<ValueId>(graph.values.size()) && defined[static_cast<size_t>(v)]), where);
    for (ValueId v : node.outputs) {
      if (v == kNoValue) continue;
      SYSTOLE_CHECK(v >= 0 && v < static_cast<ValueId>(graph.values.size()) && !defined[static_cast<size_t>(v)], where);
      defined[static_cast<size_t>(v)] = true;
    }
    std::visit(Overload{[&](const Map& m) { verify_map(graph, node, m, where); }, [&](const Move& m) { verify_move(graph, node, m, where); },
                        [&](const Contract& c) { verify_contract(graph, node, c, where); },
                        [&](const View& v) {
                          const Value &from = graph.value(node.inputs[0]), &to = graph.value(node.outputs[0]);
                          const int64_t have = element_count(from.shape) * bytes_of(from.type), want = element_count(to.shape) * bytes_of(to.type);
                          SYSTOLE_CHECK(v.offset_bytes >= 0 && v.offset_bytes + want <= have && (v.offset_bytes > 0 || want == have || !from.constant), where);
                        },
                        [&](const Join&) {
                          int64_t have = 0;
                          for (ValueId v : node.inputs) have += element_count(graph.value(v).shape) * bytes_of(graph.value(v).type);
                          SYSTOLE_CHECK(have == element_count(graph.value(node.outputs[0]).shape) * bytes_of(graph.value(node.outputs[0]).type), where);
                        }, [](const OnnxOp&) {}},
               node.op);
  }
  for (ValueId v : graph.outputs) SYSTOLE_CHECK(defined[static_cast<size_t>(v)], std::string(after) + ": output '" + graph.value(v).name + "'");
  verify_drains(graph, after);
}

}  // namespace systole
