#include "ops/volume.h"

#include <algorithm>

#include "ops/operator.h"

namespace systole {
namespace {

std::vector<int64_t> list_or(const OnnxOp& op, const char* name, size_t n, int64_t otherwise) {
  auto v = op.integers(name);
  if (v.empty()) v.assign(n, otherwise);
  return v;
}

bool plain_3d(const Expander& x) { return x.shape(0).size() == 5 && x.op().text("auto_pad", "NOTSET") == "NOTSET" && !x.op().integer("ceil_mode", 0); }

}  // namespace

bool expand_conv_3d(Expander& x) {
  const OnnxOp& op = x.op();
  if (!plain_3d(x) || x.shape(1).size() != 5) return false;
  const Shape s = x.shape(0), w = x.shape(1);
  const auto stride = list_or(op, "strides", 3, 1), dilation = list_or(op, "dilations", 3, 1), pads = list_or(op, "pads", 6, 0);
  const int64_t kd = w[2], out = (s[2] + pads[0] + pads[3] - (kd - 1) * dilation[0] - 1) / stride[0] + 1;
  if (stride.size() != 3 || dilation.size() != 3 || pads.size() != 6 || stride[0] < 1 || out < 1 || out * kd > 1024) return false;
  const std::vector<Expander::NamedAttribute> flat = {{"strides", std::vector<int64_t>{stride[1], stride[2]}}, {"dilations", std::vector<int64_t>{dilation[1], dilation[2]}}, {"pads", std::vector<int64_t>{pads[1], pads[2], pads[4], pads[5]}}, {"group", op.integer("group", 1)}};
  auto plane = [&](ValueId v, const Shape& shape, int64_t at) { return x.reshape(x.slice(v, 2, at, at + 1), {shape[0], shape[1], shape[3], shape[4]}); };
  std::vector<ValueId> planes;
  for (int64_t o = 0; o < out; ++o) {
    ValueId sum = kNoValue;
    for (int64_t k = 0; k < kd; ++k) {
      const int64_t at = o * stride[0] + k * dilation[0] - pads[0];
      if (at < 0 || at >= s[2]) continue;
      const ValueId y = x.call("Conv", {plane(x.in(0), s, at), plane(x.in(1), w, k), sum == kNoValue ? x.in(2) : kNoValue}, flat);
      sum = sum == kNoValue ? y : x.add(sum, y);
    }
    if (sum == kNoValue) return false;  // a window in the padding alone
    planes.push_back(x.call("Unsqueeze", {sum, x.ints({2})}));
  }
  x.result(0, planes.size() == 1 ? planes[0] : x.call("Concat", planes, {{"axis", int64_t{2}}}));
  return true;
}

bool expand_pool_3d(Expander& x) {
  const OnnxOp& op = x.op();
  if (!plain_3d(x) || x.wants(1)) return false;
  const Shape s = x.shape(0);
  const auto kernel = op.integers("kernel_shape"), stride = list_or(op, "strides", 3, 1), dilation = list_or(op, "dilations", 3, 1), pads = list_or(op, "pads", 6, 0);
  if (kernel.size() != 3 || stride.size() != 3 || dilation.size() != 3 || pads.size() != 6) return false;
  const std::vector<Expander::NamedAttribute> common = {{"count_include_pad", op.integer("count_include_pad", 0)}};
  auto attributes = [&](std::vector<int64_t> k, std::vector<int64_t> st, std::vector<int64_t> di, std::vector<int64_t> pa) {
    std::vector<Expander::NamedAttribute> a = {{"kernel_shape", std::move(k)}, {"strides", std::move(st)}, {"dilations", std::move(di)}, {"pads", std::move(pa)}};
    if (op.type == "AveragePool") a.insert(a.end(), common.begin(), common.end());
    return a;
  };
  int64_t oh[2];
  for (size_t d = 1; d < 3; ++d) {
    if (stride[d] < 1) return false;
    oh[d - 1] = (s[d + 2] + pads[d] + pads[d + 3] - (kernel[d] - 1) * dilation[d] - 1) / stride[d] + 1;
    if (oh[d - 1] < 1) return false;
  }
  const int64_t od = stride[0] < 1 ? 0 : (s[2] + pads[0] + pads[3] - (kernel[0] - 1) * dilation[0] - 1) / stride[0] + 1;
  if (od < 1) return false;
  const char* type = op.type == "MaxPool" ? "MaxPool" : "AveragePool";
  const ValueId planes = x.call(type, {x.reshape(x.in(0), {s[0], s[1] * s[2], s[3], s[4]})}, attributes({kernel[1], kernel[2]}, {stride[1], stride[2]}, {dilation[1], dilation[2]}, {pads[1], pads[2], pads[4], pads[5]}));
  const ValueId columns = x.call(type, {x.reshape(planes, {s[0], s[1], s[2], oh[0] * oh[1]})}, attributes({kernel[0], 1}, {stride[0], 1}, {dilation[0], 1}, {pads[0], 0, pads[3], 0}));
  x.result(0, x.reshape(columns, {s[0], s[1], od, oh[0], oh[1]}));
  return true;
}

bool expand_global_pool_3d(Expander& x) {
  const Shape s = x.shape(0);
  if (s.size() < 5) return false;
  const ValueId plane = x.reshape(x.in(0), {s[0], s[1], element_count(Shape(s.begin() + 2, s.end() - 1)), s.back()});
  Shape out(s.size(), 1);
  out[0] = s[0], out[1] = s[1];
  x.result(0, x.reshape(x.call(x.op().type.c_str(), {plane}), out));
  return true;
}

}  // namespace systole
