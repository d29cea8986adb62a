#include "sweep/space.h"

#include <yaml-cpp/yaml.h>

#include <sstream>

#include "base/error.h"
#include "base/file.h"

namespace systole {
namespace {

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, by);) {
    const size_t a = part.find_first_not_of(' '), b = part.find_last_not_of(' ');
    parts.push_back(a == std::string::npos ? "" : part.substr(a, b - a + 1));
  }
  return parts;
}

/// The node that a path names, made where it is missing.
YAML::Node at(YAML::Node root, const std::string& path) {
  for (const std::string& part : split(path, '.')) root.reset(root[part]);
  return root;
}

class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}
  [[noreturn]] void bad(const YAML::Node& n, const std::string& key, const std::string& found, const std::string& expected) const {
    const auto mark = n.Mark();
    fail(ErrorCode::kBadInput, source_ + (mark.is_null() ? "" : ":" + std::to_string(mark.line + 1)) + ": " + key, found, expected);
  }
  double number(const YAML::Node& n, const std::string& key) const {
    const auto v = n && n.IsScalar() ? parse_quantity(n.Scalar()) : std::nullopt;
    if (!v) bad(n, key, n && n.IsScalar() ? "'" + n.Scalar() + "'" : "missing", "a number with a suffix Ki, Mi, Gi, k, M or G");
    return *v;
  }
  std::vector<std::vector<std::string>> values(const YAML::Node& n, const std::string& key, size_t count) const {
    std::vector<std::vector<std::string>> list;
    if (n.IsSequence()) {
      for (const YAML::Node& v : n) {
        std::vector<std::string> row;
        if (v.IsScalar()) row.push_back(v.Scalar());
        else if (v.IsSequence()) for (const YAML::Node& x : v) row.push_back(x.IsScalar() ? x.Scalar() : "");
        if (row.size() != count) bad(v, key, std::to_string(row.size()) + " values", std::to_string(count) + (count > 1 ? " values in brackets, one per key" : " value"));
        list.push_back(row);
      }
    } else if (n.IsMap() && count == 1) {
      const double from = number(n["from"], key + ".from"), to = number(n["to"], key + ".to");
      const bool factor = static_cast<bool>(n["factor"]);
      const double step = number(factor ? n["factor"] : n["step"], key + (factor ? ".factor" : ".step"));
      if (!(from <= to) || step <= (factor ? 1 : 0)) bad(n, key, "a range that never ends", "from <= to, step > 0 or factor > 1");
      for (double v = from; v <= to && list.size() <= 4096; v = factor ? v * step : v + step) list.push_back({std::to_string(static_cast<int64_t>(v))});
    }
    if (list.empty() || list.size() > 4096) bad(n, key, std::to_string(list.size()) + " values", "1 to 4096 values in a list, or {from, to, step} or {from, to, factor}");
    return list;
  }

 private:
  const std::string& source_;
};

}  // namespace

int64_t Space::size() const {
  int64_t n = 1;
  for (const Parameter& p : parameters) {
    if (__builtin_mul_overflow(n, static_cast<int64_t>(p.values.size()), &n)) return INT64_MAX;
  }
  return n;
}

std::vector<std::string> Space::keys() const {
  std::vector<std::string> all;
  for (const Parameter& p : parameters) all.insert(all.end(), p.keys.begin(), p.keys.end());
  return all;
}

Machine Space::machine(const std::vector<int>& choices) const {
  YAML::Node root = YAML::Load(base_text);
  for (size_t p = 0; p < parameters.size(); ++p) {
    const auto& row = parameters[p].values[static_cast<size_t>(choices[p])];
    for (size_t k = 0; k < row.size(); ++k) at(root, parameters[p].keys[k]) = row[k];
  }
  return parse_machine(YAML::Dump(root), base_name);
}

Space read_space(const std::string& path) {
  const auto bytes = read_file(path, 1 << 20);
  YAML::Node root;
  try {
    root = YAML::Load(std::string(bytes.begin(), bytes.end()));
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kBadInput, path + ":" + std::to_string(e.mark.line + 1), e.msg, "valid YAML");
  }
  const Reader r(path);
  if (!root.IsMap() || !root["base"] || !root["base"].IsScalar() || !root["parameters"] || !root["parameters"].IsMap()) fail(ErrorCode::kBadInput, path, "not a design space", "the keys 'base' (a machine) and 'parameters'", "see examples/sweep/space.yaml");
  for (const auto& e : root) {
    if (e.first.Scalar() != "base" && e.first.Scalar() != "parameters") r.bad(e.first, e.first.Scalar(), "unknown key", "base or parameters");
  }
  const Machine base = load_machine(root["base"].Scalar());
  Space s{base.text, base.name, {}};
  for (const auto& e : root["parameters"]) {
    Parameter p;
    p.keys = split(e.first.Scalar(), ',');
    p.values = r.values(e.second, e.first.Scalar(), p.keys.size());
    s.parameters.push_back(std::move(p));
  }
  if (s.parameters.empty()) r.bad(root["parameters"], "parameters", "none", "keys of the machine, e.g. 'mx.rows: [2, 4, 8]'");
  // A key that no machine has is an error now, not in each point.
  const YAML::Node base_root = YAML::Load(base.text);
  for (const std::string& key : s.keys()) {
    try {
      YAML::Node probe = YAML::Load(base.text);
      at(probe, key) = "0.5";
      parse_machine(YAML::Dump(probe), path);
    } catch (const Failure& f) {
      if (std::string(f.what()).find("unknown key") != std::string::npos) throw;
    }
  }
  return s;
}

}  // namespace systole
