// Sequences and optionals.
#include <string>

#include "host/host.h"

namespace systole {
namespace {

int64_t position(const HostCall& c, size_t k, size_t size, bool may_append) {
  const int64_t n = static_cast<int64_t>(size);
  if (!c.has(k)) return may_append ? n : n - 1;
  const int64_t i = c.in(k).count() ? c.in(k).int_at(0) : n;
  if (i < -n || i > (may_append ? n : n - 1)) malformed(c.node, "position " + std::to_string(i), "a position of a sequence of " + std::to_string(n));
  return i < 0 ? i + n : i;
}

void run_empty(HostCall& c) { c.give(0, HostValue::list({})); }
void run_construct(HostCall& c) { c.give(0, HostValue::list(c.inputs)); }
void run_at(HostCall& c) {
  const auto& list = c.list(0);
  if (list.empty()) malformed(c.node, "an empty sequence", "one element or more");
  c.give(0, list[static_cast<size_t>(position(c, 1, list.size(), false))]);
}
void run_length(HostCall& c) { c.give(0, Tensor::from_ints({static_cast<int64_t>(c.list(0).size())}, {})); }
void run_insert(HostCall& c) {
  auto list = c.list(0);
  if (!c.has(1)) malformed(c.node, "no value to insert", "a tensor");
  list.insert(list.begin() + position(c, 2, list.size(), true), c.inputs.at(1));
  c.give(0, HostValue::list(std::move(list)));
}
void run_erase(HostCall& c) {
  auto list = c.list(0);
  if (list.empty()) malformed(c.node, "an empty sequence", "one element or more");
  list.erase(list.begin() + position(c, 1, list.size(), false));
  c.give(0, HostValue::list(std::move(list)));
}

/// The body runs once per position; what is not a sequence is given whole.
void run_map(HostCall& c) {
  const Graph& body = c.op().graph("body");
  const size_t explicit_count = body.inputs.size() - body.captures.size(), n = c.list(0).size();
  std::vector<std::vector<HostValue>> results(body.outputs.size());
  for (size_t i = 0; i < n; ++i) {
    std::vector<HostValue> in;
    for (size_t k = 0; k < explicit_count; ++k) {
      if (k < c.inputs.size() && c.inputs[k].sequence) {
        if (c.list(k).size() != n) malformed(c.node, "sequences of " + std::to_string(n) + " and " + std::to_string(c.list(k).size()), "equal lengths");
        in.push_back(c.list(k)[i]);
      } else {
        in.push_back(c.inputs.at(k));
      }
    }
    auto out = c.run_graph(body, c.subgraph_inputs(body, std::move(in)));
    for (size_t k = 0; k < out.size(); ++k) results[k].push_back(std::move(out[k]));
  }
  for (size_t k = 0; k < results.size(); ++k) c.give(k, HostValue::list(std::move(results[k])));
}

void run_optional(HostCall& c) { c.give(0, c.has(0) ? c.inputs[0] : HostValue()); }
void run_has_element(HostCall& c) { c.make(0, DType::kBool, {}).set_int(0, c.has(0)); }
void run_get_element(HostCall& c) {
  if (!c.has(0)) malformed(c.node, "an optional that holds nothing", "a value");
  c.give(0, c.inputs[0]);
}

constexpr HostOperator kOperators[] = {
    {"", "SequenceEmpty", run_empty, kAllInputs, false}, {"", "SequenceConstruct", run_construct, kAllInputs, false}, {"", "SequenceAt", run_at, kAllInputs}, {"", "SequenceLength", run_length}, {"", "SequenceInsert", run_insert, kAllInputs},
    {"", "SequenceErase", run_erase, kAllInputs}, {"", "SequenceMap", run_map, kAllInputs, false}, {"", "Optional", run_optional, kAllInputs, false}, {"", "OptionalHasElement", run_has_element}, {"", "OptionalGetElement", run_get_element, kAllInputs},
};

}  // namespace

std::span<const HostOperator> host_sequences() { return kOperators; }

}  // namespace systole
