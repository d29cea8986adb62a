#include "host/host.h"

#include <map>
#include <string>

#include "base/error.h"

namespace systole {

HostValue HostValue::list(std::vector<HostValue> items) {
  HostValue v;
  v.sequence = std::make_shared<const std::vector<HostValue>>(std::move(items));
  return v;
}

HostLimits& host_limits() {
  static HostLimits limits;
  return limits;
}

TensorPtr HostCall::ptr(size_t k) const {
  if (!has(k)) malformed(node, "no input " + std::to_string(k), "the input that the operator's schema asks for");
  if (!inputs[k].tensor) malformed(node, "a sequence as input " + std::to_string(k), "a tensor");
  return inputs[k].tensor;
}
const Tensor& HostCall::in(size_t k) const { return *ptr(k); }

const std::vector<HostValue>& HostCall::list(size_t k) const {
  if (!has(k) || !inputs[k].sequence) malformed(node, "no sequence as input " + std::to_string(k), "a sequence");
  return *inputs[k].sequence;
}

double HostCall::number(size_t k, double otherwise) const {
  if (!has(k)) return otherwise;
  if (in(k).count() < 1) malformed(node, "an empty tensor as input " + std::to_string(k), "one number");
  return in(k).at(0);
}

void HostCall::give(size_t k, HostValue value) {
  if (wants(k)) outputs[k] = std::move(value);
}

Tensor& HostCall::make(size_t k, DType type, const Shape& shape) {
  if (element_count(shape) > host_limits().elements) fail(ErrorCode::kResource, "node '" + node.name + "'", "a result of shape " + to_string(shape), "at most " + std::to_string(host_limits().elements) + " elements");
  auto t = std::make_shared<Tensor>(blank(type, shape));
  Tensor& out = *t;
  if (outputs.size() <= k) outputs.resize(k + 1);
  outputs[k] = HostValue(TensorPtr(std::move(t)));
  return out;
}

std::vector<HostValue> HostCall::subgraph_inputs(const Graph& g, std::vector<HostValue> explicit_inputs) const {
  for (int k : g.captures) explicit_inputs.push_back(inputs.at(static_cast<size_t>(k)));
  if (explicit_inputs.size() != g.inputs.size()) malformed(node, std::to_string(explicit_inputs.size() - g.captures.size()) + " values for its graph", std::to_string(g.inputs.size() - g.captures.size()) + " inputs");
  return explicit_inputs;
}

std::span<const HostOperator> host_operators() {
  static const std::vector<HostOperator> all = [] {
    std::vector<HostOperator> list;
    for (const auto& part : {host_elementwise(), host_casts(), host_reductions(), host_scans(), host_gathers(), host_layouts(), host_resizes(), host_fills(), host_linear(), host_windows(), host_sequences(), host_control(), host_text(), host_vision(),
                             host_signal(), host_random(), host_sets()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    return list;
  }();
  return all;
}

const HostOperator* find_host_operator(std::string_view domain, std::string_view name) {
  static const std::map<std::pair<std::string_view, std::string_view>, const HostOperator*> index = [] {
    std::map<std::pair<std::string_view, std::string_view>, const HostOperator*> m;
    for (const HostOperator& o : host_operators()) m[{o.domain, o.name}] = &o;
    return m;
  }();
  const auto it = index.find({domain, name});
  return it == index.end() ? nullptr : it->second;
}

std::vector<HostValue> run_host(const Node& node, const std::vector<HostValue>& inputs, const GraphRunner& runner) {
  const auto& op = std::get<OnnxOp>(node.op);
  const HostOperator* record = find_host_operator(op.domain, op.type);
  if (!record) unsupported(node, "no implementation on the host");
  HostCall call(node, inputs, runner);
  checked(node, [&] { record->run(call); });
  call.outputs.resize(node.outputs.size());
  return std::move(call.outputs);
}

bool Odometer::next() {
  for (size_t d = index.size(); d-- > 0;) {
    if (++index[d] < shape[d]) return true;
    index[d] = 0;
  }
  return false;
}

std::vector<int64_t> broadcast_strides(const Shape& own, const Shape& to) {
  std::vector<int64_t> strides(to.size(), 0);
  const auto dense = row_major_strides(own);
  for (size_t d = 0; d < own.size(); ++d) strides[to.size() - own.size() + d] = own[d] == 1 ? 0 : dense[d];
  return strides;
}

int64_t offset_of(const std::vector<int64_t>& index, const std::vector<int64_t>& strides) {
  int64_t at = 0;
  for (size_t d = 0; d < index.size(); ++d) at += index[d] * strides[d];
  return at;
}

void copy_element(Tensor& to, int64_t i, const Tensor& from, int64_t j) {
  if (to.type == DType::kString) {
    to.strings[static_cast<size_t>(i)] = from.strings[static_cast<size_t>(j)];
    return;
  }
  const int64_t size = bytes_of(to.type);
  std::copy_n(from.bytes.begin() + j * size, size, to.bytes.begin() + i * size);
}

Tensor blank(DType type, const Shape& shape) {
  Tensor t(type, shape);
  if (type == DType::kString) t.strings.resize(static_cast<size_t>(t.count()));
  return t;
}

DType type_attribute(const OnnxOp& op, DType otherwise) { return op.has("systole_to") ? static_cast<DType>(op.integer("systole_to", 0)) : otherwise; }

}  // namespace systole
