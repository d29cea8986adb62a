#include "graph/checks.h"

#include <algorithm>

#include "base/error.h"

namespace systole {

void unsupported(const Node& node, const std::string& why) { fail(ErrorCode::kUnsupported, "node '" + node.name + "' (" + op_name(node.op) + ")", why); }
void malformed(const Node& node, const std::string& found, const std::string& expected) {
  fail(ErrorCode::kBadInput, "node '" + node.name + "' (" + op_name(node.op) + ")", found, expected);
}

Shape broadcast_shapes(const Node& node, const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t x = i + a.size() < out.size() ? 1 : a[i + a.size() - out.size()], y = i + b.size() < out.size() ? 1 : b[i + b.size() - out.size()];
    if (x != y && x != 1 && y != 1) malformed(node, "shapes " + to_string(a) + " and " + to_string(b), "shapes that broadcast");
    out[i] = x == 1 ? y : x;
  }
  return out;
}

int64_t normalise_axis(const Node& node, int64_t axis, size_t rank) {
  const int64_t r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) malformed(node, "axis " + std::to_string(axis), "an axis of a tensor of rank " + std::to_string(r));
  return axis < 0 ? axis + r : axis;
}

}  // namespace systole
