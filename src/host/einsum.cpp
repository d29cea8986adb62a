#include "host/einsum.h"

#include <algorithm>

#include "graph/checks.h"

namespace systole {
namespace {

bool of_dots(char label) { return label >= '0' && label <= '9'; }

/// Labels of a term, "..." replaced by those of the axes it stands for.
std::string labels_of(const Node& node, std::string term, size_t rank) {
  const size_t dots = term.find("...");
  if (dots == std::string::npos) return term;
  const size_t extra = rank + 3 - std::min(term.size(), rank + 3);
  if (term.size() - 3 > rank || extra > 10) malformed(node, "term '" + term + "'", "at most as many labels as axes");
  std::string labels;
  for (size_t i = extra; i-- > 0;) labels += static_cast<char>('0' + i);
  return term.replace(dots, 3, labels);
}

}  // namespace

EinsumEquation::EinsumEquation(const Node& node, const std::vector<Shape>& shapes) {
  std::string equation = std::get<OnnxOp>(node.op).text("equation", "");
  std::erase(equation, ' ');
  const size_t arrow = equation.find("->");
  std::string left = equation.substr(0, arrow);
  std::map<char, int> uses;
  for (size_t k = 0; k < shapes.size(); ++k) {
    const size_t comma = left.find(',');
    if ((comma == std::string::npos) != (k + 1 == shapes.size())) malformed(node, "equation '" + equation + "'", std::to_string(shapes.size()) + " terms");
    terms.push_back(labels_of(node, left.substr(0, comma), shapes[k].size()));
    left = comma == std::string::npos ? "" : left.substr(comma + 1);
    if (terms.back().size() != shapes[k].size()) malformed(node, "equation '" + equation + "'", "a label per axis");
    for (size_t d = 0; d < shapes[k].size(); ++d) {
      int64_t& e = extents.try_emplace(terms.back()[d], 1).first->second;
      const int64_t own = shapes[k][d];
      if (e != 1 && own != 1 && e != own) malformed(node, "extents " + std::to_string(e) + " and " + std::to_string(own) + " of one label", "equal extents");
      e = e == 1 ? own : e, ++uses[terms.back()[d]];
    }
  }
  std::string dots;
  for (auto it = extents.rbegin(); it != extents.rend(); ++it) dots += of_dots(it->first) ? std::string(1, it->first) : "";
  if (arrow != std::string::npos) {
    result = equation.substr(arrow + 2);
    if (const size_t at = result.find("..."); at != std::string::npos) result.replace(at, 3, dots);
  } else {
    result = dots;
    for (const auto& [l, n] : uses) result += n == 1 && !of_dots(l) ? std::string(1, l) : "";
  }
  for (char l : result) {
    if (!extents.count(l)) malformed(node, "equation '" + equation + "'", "output labels that inputs have");
    if (std::count(result.begin(), result.end(), l) > 1) malformed(node, "equation '" + equation + "'", "each label once in the output");
  }
}

std::string EinsumEquation::summed() const {
  std::string labels;
  for (const auto& [l, n] : extents) labels += result.find(l) == std::string::npos ? std::string(1, l) : "";
  return labels;
}

}  // namespace systole
