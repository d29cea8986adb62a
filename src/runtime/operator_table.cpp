// docs/operators.md: what runs where, from the records of the NPU (src/ops) and of the host (src/host).
#include <map>
#include <string>

#include "host/host.h"
#include "ops/operator.h"
#include "systole/systole.h"

namespace systole {

std::string operator_table() {
  std::map<std::pair<std::string, std::string>, std::pair<std::string, bool>> rows;
  for (const HostOperator& o : host_operators()) rows[{o.domain, o.name}].second = true;
  for (const Operator& o : operators()) rows[{o.domain, o.name}].first = o.engine;
  std::string t =
      "# Operators\n\nWritten by `systole ops` from the operator records in `src/ops` and `src/host`; do not edit.\n\n"
      "- **NPU**: the engine that does most of the work; *expands*: it is written as other operators, which run where each of them can; *shapes*: known when the compiler runs.\n"
      "- **host**: the host computes it too: for constants, for types and shapes that the NPU does not take, and where there is no NPU rule.\n\n"
      "| domain | operator | NPU | host |\n|---|---|---|---|\n";
  for (const auto& [name, where] : rows) {
    t += "| " + (name.first.empty() ? std::string("ai.onnx") : name.first) + " | " + name.second + " | " + (where.first.empty() ? "-" : where.first) + " | " + (where.second ? "yes" : "-") + " |\n";
  }
  return t;
}

}  // namespace systole
