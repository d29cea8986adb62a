// Reading and writing by run-time indices: Gather and Scatter in all their forms, OneHot, Compress, TensorScatter.
#include <algorithm>
#include <cmath>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

int64_t checked_index(const Node& node, int64_t i, int64_t extent) {
  if (i < -extent || i >= extent) malformed(node, "index " + std::to_string(i), "an index of an axis of " + std::to_string(extent));
  return i < 0 ? i + extent : i;
}

void copy_run(Tensor& to, int64_t i, const Tensor& from, int64_t j, int64_t n) {
  if (to.type == DType::kString) {
    std::copy_n(from.strings.begin() + j, n, to.strings.begin() + i);
    return;
  }
  const int64_t size = bytes_of(to.type);
  std::copy_n(from.bytes.begin() + j * size, n * size, to.bytes.begin() + i * size);
}

int64_t product(const Shape& s, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t d = from; d < to; ++d) n *= s[d];
  return n;
}

void run_gather(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  const size_t axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), x.shape.size()));
  Shape shape(x.shape.begin(), x.shape.begin() + static_cast<long>(axis));
  shape.insert(shape.end(), indices.shape.begin(), indices.shape.end());
  shape.insert(shape.end(), x.shape.begin() + static_cast<long>(axis) + 1, x.shape.end());
  const int64_t outer = product(x.shape, 0, axis), inner = product(x.shape, axis + 1, x.shape.size()), extent = x.shape[axis], n = indices.count();
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t k = 0; k < n; ++k) copy_run(y, (o * n + k) * inner, x, (o * extent + checked_index(c.node, indices.int_at(k), extent)) * inner, inner);
  }
}

void run_gather_elements(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  const size_t rank = x.shape.size(), axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), rank));
  if (indices.shape.size() != rank) malformed(c.node, "indices of shape " + to_string(indices.shape), "rank " + std::to_string(rank));
  for (size_t d = 0; d < rank; ++d) {
    if (d != axis && indices.shape[d] > x.shape[d]) malformed(c.node, "indices of shape " + to_string(indices.shape), "extents within " + to_string(x.shape));
  }
  const auto strides = row_major_strides(x.shape);
  Tensor& y = c.make(0, x.type, indices.shape);
  Odometer at(indices.shape);
  for (int64_t i = 0, n = indices.count(); i < n; ++i, at.next()) {
    const int64_t k = checked_index(c.node, indices.int_at(i), x.shape[axis]);
    copy_element(y, i, x, offset_of(at.index, strides) + (k - at.index[axis]) * strides[axis]);
  }
}

/// Offset of the slice that the last axis of `indices` names at row r; `batch` leading axes are shared.
int64_t slice_offset(const Node& node, const Tensor& indices, int64_t r, const Shape& x, size_t batch, int64_t batch_index) {
  const int64_t depth = indices.shape.back();
  const auto strides = row_major_strides(x);
  int64_t at = batch == 0 ? 0 : batch_index * (strides[batch - 1]);
  for (int64_t d = 0; d < depth; ++d) {
    const size_t dim = batch + static_cast<size_t>(d);
    at += checked_index(node, indices.int_at(r * depth + d), x[dim]) * strides[dim];
  }
  return at;
}

void check_nd(const HostCall& c, const Tensor& indices, const Shape& x, size_t batch) {
  if (indices.shape.empty() || indices.shape.size() <= batch || batch + static_cast<size_t>(indices.shape.back()) > x.size()) malformed(c.node, "indices of shape " + to_string(indices.shape), "index tuples of a tensor of shape " + to_string(x));
  for (size_t d = 0; d < batch; ++d) {
    if (indices.shape[d] != x[d]) malformed(c.node, "indices of shape " + to_string(indices.shape), "the batch of " + to_string(x));
  }
}

void run_gather_nd(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  const size_t batch = static_cast<size_t>(std::max<int64_t>(0, c.op().integer("batch_dims", 0)));
  check_nd(c, indices, x.shape, batch);
  const size_t used = batch + static_cast<size_t>(indices.shape.back());
  Shape shape(indices.shape.begin(), indices.shape.end() - 1);
  shape.insert(shape.end(), x.shape.begin() + static_cast<long>(used), x.shape.end());
  const int64_t run = product(x.shape, used, x.shape.size()), rows = product(indices.shape, 0, indices.shape.size() - 1), batches = product(x.shape, 0, batch);
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t r = 0; r < rows; ++r) copy_run(y, r * run, x, slice_offset(c.node, indices, r, x.shape, batch, r / std::max<int64_t>(1, rows / batches)), run);
}

/// What a scatter does with the value that is there.
void combine(Tensor& y, int64_t at, const Tensor& u, int64_t from, const std::string& reduction) {
  if (reduction == "none") return copy_element(y, at, u, from);
  if (!is_float(y.type)) {
    const int64_t a = y.int_at(at), b = u.int_at(from);
    y.set_int(at, reduction == "add" ? static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)) : reduction == "mul" ? static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)) : reduction == "max" ? std::max(a, b) : std::min(a, b));
    return;
  }
  const double a = y.at(at), b = u.at(from);
  y.set(at, reduction == "add" ? a + b : reduction == "mul" ? a * b : reduction == "max" ? std::max(a, b) : std::min(a, b));
}

std::string reduction_of(const HostCall& c) {
  const std::string r = c.op().text("reduction", "none");
  if (r != "none" && r != "add" && r != "mul" && r != "max" && r != "min") malformed(c.node, "reduction '" + r + "'", "none, add, mul, max or min");
  return r;
}

void require_type(const HostCall& c, const Tensor& x, const Tensor& updates) {
  const bool numbers = x.type != DType::kString && updates.type != DType::kString;
  if (x.type != updates.type && !(numbers && is_float(x.type) == is_float(updates.type))) malformed(c.node, std::string("updates of type ") + to_string(updates.type), to_string(x.type));
}

void run_scatter_nd(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1), &updates = c.in(2);
  check_nd(c, indices, x.shape, 0);
  require_type(c, x, updates);
  const size_t used = static_cast<size_t>(indices.shape.back());
  const int64_t run = product(x.shape, used, x.shape.size()), rows = product(indices.shape, 0, indices.shape.size() - 1);
  if (updates.count() != rows * run) malformed(c.node, "updates of shape " + to_string(updates.shape), std::to_string(rows * run) + " elements");
  const std::string reduction = reduction_of(c);
  Tensor u = updates;
  if (u.type != x.type) {
    u = Tensor(x.type, updates.shape);
    for (int64_t i = 0; i < u.count(); ++i) is_float(u.type) ? u.set(i, updates.at(i)) : u.set_int(i, updates.int_at(i));
  }
  Tensor& y = c.make(0, x.type, x.shape);
  y = x;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t to = slice_offset(c.node, indices, r, x.shape, 0, 0);
    if (reduction == "none") copy_run(y, to, u, r * run, run);
    else for (int64_t i = 0; i < run; ++i) combine(y, to + i, u, r * run + i, reduction);
  }
}

void run_scatter_elements(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1), &updates = c.in(2);
  const size_t rank = x.shape.size(), axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), rank));
  require_type(c, x, updates);
  if (indices.shape.size() != rank || updates.shape != indices.shape || updates.type != x.type) malformed(c.node, "indices " + to_string(indices.shape) + " and updates " + to_string(updates.shape), "equal shapes of the data's rank, and its type");
  for (size_t d = 0; d < rank; ++d) {
    if (d != axis && indices.shape[d] > x.shape[d]) malformed(c.node, "indices of shape " + to_string(indices.shape), "extents within " + to_string(x.shape));
  }
  const std::string reduction = reduction_of(c);
  const auto strides = row_major_strides(x.shape);
  Tensor& y = c.make(0, x.type, x.shape);
  y = x;
  Odometer at(indices.shape);
  for (int64_t i = 0, n = indices.count(); i < n; ++i, at.next()) {
    const int64_t k = checked_index(c.node, indices.int_at(i), x.shape[axis]);
    combine(y, offset_of(at.index, strides) + (k - at.index[axis]) * strides[axis], updates, i, reduction);
  }
}

/// Writes `update` into a cache at write_indices[batch] along the axis; circular mode wraps around. Opset 24.
void run_tensor_scatter(HostCall& c) {
  const Tensor &past = c.in(0), &update = c.in(1);
  const size_t rank = past.shape.size(), axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", -2), rank));
  const bool circular = c.op().text("mode", "linear") == "circular";
  if (update.shape.size() != rank || axis == 0) malformed(c.node, "an update of shape " + to_string(update.shape), "the cache's rank, and an axis after the batch");
  for (size_t d = 0; d < rank; ++d) {
    if (d != axis && update.shape[d] != past.shape[d]) malformed(c.node, "an update of shape " + to_string(update.shape), "the extents of " + to_string(past.shape));
  }
  const auto strides = row_major_strides(past.shape);
  Tensor& y = c.make(0, past.type, past.shape);
  y = past;
  Odometer at(update.shape);
  for (int64_t i = 0, n = update.count(); i < n; ++i, at.next()) {
    int64_t k = (c.has(2) ? c.in(2).int_at(at.index[0]) : 0) + at.index[axis];
    if (circular) k = (k % past.shape[axis] + past.shape[axis]) % past.shape[axis];
    k = checked_index(c.node, k, past.shape[axis]);
    copy_element(y, offset_of(at.index, strides) + (k - at.index[axis]) * strides[axis], update, i);
  }
}

/// values[1] where the index is, values[0] elsewhere.
void run_one_hot(HostCall& c) {
  const Tensor &indices = c.in(0), &values = c.in(2);
  const int64_t depth = static_cast<int64_t>(c.number(1, 0));
  if (depth < 1 || values.count() != 2) malformed(c.node, "depth " + std::to_string(depth), "1 or more, and two values");
  const size_t rank = indices.shape.size(), axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", -1), rank + 1));
  Shape shape = indices.shape;
  shape.insert(shape.begin() + static_cast<long>(axis), depth);
  Tensor& y = c.make(0, values.type, shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i) copy_element(y, i, values, 0);
  const int64_t inner = product(indices.shape, axis, rank);
  for (int64_t i = 0, n = indices.count(); i < n; ++i) {
    int64_t k = static_cast<int64_t>(indices.at(i));
    if (k < -depth || k >= depth) continue;
    if (k < 0) k += depth;
    copy_element(y, (i / inner * depth + k) * inner + i % inner, values, 1);
  }
}

void run_compress(HostCall& c) {
  const Tensor &x = c.in(0), &condition = c.in(1);
  const bool flat = !c.op().has("axis");
  const size_t axis = flat ? 0 : static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), x.shape.size()));
  const Shape own = flat ? Shape{x.count()} : x.shape;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < condition.count(); ++i) {
    if (condition.int_at(i)) chosen.push_back(checked_index(c.node, i, own[axis]));
  }
  Shape shape = own;
  shape[axis] = static_cast<int64_t>(chosen.size());
  const int64_t outer = product(own, 0, axis), inner = product(own, axis + 1, own.size()), n = shape[axis];
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t k = 0; k < n; ++k) copy_run(y, (o * n + k) * inner, x, (o * own[axis] + chosen[static_cast<size_t>(k)]) * inner, inner);
  }
}

void run_non_zero(HostCall& c) {
  const Tensor& x = c.in(0);
  std::vector<std::vector<int64_t>> found;
  Odometer at(x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i, at.next()) {
    if (is_float(x.type) ? x.at(i) != 0 : x.int_at(i) != 0) found.push_back(at.index);
  }
  const int64_t n = static_cast<int64_t>(found.size()), rank = static_cast<int64_t>(x.shape.size());
  Tensor& y = c.make(0, DType::kI64, {rank, n});
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t d = 0; d < rank; ++d) y.set_int(d * n + i, found[static_cast<size_t>(i)][static_cast<size_t>(d)]);
  }
}

/// The last axis of x at the indices.
void run_array_feature_extractor(HostCall& c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  if (x.shape.empty()) malformed(c.node, "a scalar", "a tensor of rank 1 or more");
  const int64_t extent = x.shape.back(), outer = extent ? x.count() / extent : 0, n = indices.count();
  Shape shape = x.shape;
  if (shape.size() == 1) shape = {1, n};
  else shape.back() = n;
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t k = 0; k < n; ++k) copy_element(y, o * n + k, x, o * extent + checked_index(c.node, indices.int_at(k), extent));
  }
}

constexpr HostOperator kOperators[] = {
    {"", "Gather", run_gather}, {"", "GatherElements", run_gather_elements}, {"", "GatherND", run_gather_nd}, {"", "ScatterND", run_scatter_nd},
    {"", "ScatterElements", run_scatter_elements}, {"", "Scatter", run_scatter_elements}, {"", "TensorScatter", run_tensor_scatter}, {"", "OneHot", run_one_hot, 2},
    {"", "Compress", run_compress, kAllInputs}, {"", "NonZero", run_non_zero, kAllInputs}, {"ai.onnx.ml", "ArrayFeatureExtractor", run_array_feature_extractor},
};

}  // namespace

std::span<const HostOperator> host_gathers() { return kOperators; }

}  // namespace systole
