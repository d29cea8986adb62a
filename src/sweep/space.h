// A design space: a base machine, and values for some of its keys.
#pragma once
#include <string>
#include <vector>

#include "machine/machine.h"

namespace systole {

/// Keys that change together, as paths into the YAML ("mx.rows"), and their values side by side.
struct Parameter {
  std::vector<std::string> keys;
  std::vector<std::vector<std::string>> values;  ///< per choice, one text per key
};

struct Space {
  std::string base_text, base_name;
  std::vector<Parameter> parameters;

  /// Machines in the whole grid; saturates at INT64_MAX.
  int64_t size() const;
  /// The description with one choice per parameter. Fails (kBadInput) like parse_machine where they do not fit together.
  Machine machine(const std::vector<int>& choices) const;
  std::vector<std::string> keys() const;
};

/// From YAML: `base`, and `parameters`: a key, or several with commas, to a list of values, or {from, to, step} or
/// {from, to, factor}. Fails with file, line, key and what was expected.
Space read_space(const std::string& path);

}  // namespace systole
