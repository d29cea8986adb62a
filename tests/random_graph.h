// Random ONNX graphs of small extents, for differential tests. The same seed gives the same graph everywhere.
#pragma once
#include <random>

#include "graph/graph.h"

namespace systole {

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed) : rng_(seed) {
    graph_.name = "random" + std::to_string(seed);
    const Shape shape = {1, 1 + pick(20), 4 + pick(12), 4 + pick(12)};
    const ValueId x = graph_.add_value("x", DType::kF32, shape);
    graph_.inputs.push_back(x);
    pool_.push_back({x, shape});
    const int64_t nodes = 2 + pick(7);
    for (int64_t i = 0; i < nodes; ++i) grow();
    graph_.outputs.push_back(pool_.back().id);
    if (pool_.size() > 3 && pick(2)) graph_.outputs.push_back(pool_[pool_.size() - 2].id);
  }
  const Graph& graph() const { return graph_; }

  /// Inputs with ordinary, huge, tiny and special values mixed in now and then.
  std::vector<Tensor> inputs() {
    const Shape& shape = graph_.value(graph_.inputs[0]).shape;
    Tensor t(DType::kF32, shape);
    const bool special = pick(10) == 0;
    for (int64_t i = 0; i < t.count(); ++i) {
      float v = real();
      if (special && pick(50) == 0) v = std::vector<float>{0.0f, -0.0f, 1e38f, -1e38f, 1e-40f, INFINITY, -INFINITY, NAN}[static_cast<size_t>(pick(8))];
      t.data<float>()[i] = v;
    }
    return {t};
  }

 private:
  struct Item {
    ValueId id;
    Shape shape;
  };
  int64_t pick(int64_t n) { return static_cast<int64_t>(rng_() % static_cast<uint64_t>(n)); }
  float real() { return static_cast<float>(static_cast<int64_t>(rng_() >> 40) - (1 << 23)) * 0x1p-22f; }

  ValueId constant(const Shape& shape) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = real();
    return graph_.add_constant("c" + std::to_string(next_++), std::make_shared<Tensor>(std::move(t)));
  }
  ValueId integers(const std::vector<int64_t>& v) { return graph_.add_constant("i" + std::to_string(next_++), std::make_shared<Tensor>(Tensor::from_ints(v, {static_cast<int64_t>(v.size())}))); }

  void add(const char* type, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes, Shape shape) {
    const std::string name = std::string(type) + std::to_string(next_++);
    const ValueId out = graph_.add_value(name, DType::kF32, shape);
    graph_.value(out).shape_known = false;
    graph_.nodes.push_back({name, OnnxOp{"", type, 17, std::move(attributes)}, std::move(inputs), {out}});
    pool_.push_back({out, std::move(shape)});
  }

  void grow() {
    const Item x = pool_[static_cast<size_t>(std::max<int64_t>(0, static_cast<int64_t>(pool_.size()) - 1 - pick(2)))];
    const size_t rank = x.shape.size();
    switch (pick(rank == 4 ? 17 : 9)) {
      case 0: {
        static const char* const kUnary[] = {"Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Erf", "Floor", "HardSigmoid", "Softplus", "LeakyRelu", "Elu", "HardSwish", "Gelu", "Sqrt", "Reciprocal"};
        return add(kUnary[pick(16)], {x.id}, {}, x.shape);
      }
      case 1: {
        static const char* const kBinary[] = {"Add", "Sub", "Mul", "Max", "Min", "Div"};
        Shape s = x.shape;
        for (int64_t& d : s) d = pick(2) ? d : 1;
        return add(kBinary[pick(6)], {x.id, constant(s)}, {}, x.shape);
      }
      case 2: {  // with an earlier value of the same shape
        for (const Item& y : pool_) {
          if (y.shape == x.shape && y.id != x.id) return add(pick(2) ? "Add" : "Mul", {x.id, y.id}, {}, x.shape);
        }
        return add("Mul", {x.id, x.id}, {}, x.shape);
      }
      case 3: return add("Softmax", {x.id}, {{"axis", pick(static_cast<int64_t>(rank))}}, x.shape);
      case 4: {
        const int64_t axis = pick(static_cast<int64_t>(rank));
        Shape s = x.shape;
        s[static_cast<size_t>(axis)] = 1;
        static const char* const kReduce[] = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"};
        return add(kReduce[pick(4)], {x.id}, {{"axes", std::vector<int64_t>{axis}}}, s);
      }
      case 5: {
        Shape s;
        std::vector<int64_t> perm;
        for (size_t d = 0; d < rank; ++d) perm.insert(perm.begin() + pick(static_cast<int64_t>(perm.size()) + 1), static_cast<int64_t>(d));
        for (int64_t d : perm) s.push_back(x.shape[static_cast<size_t>(d)]);
        return add("Transpose", {x.id}, {{"perm", perm}}, s);
      }
      case 6: {
        const Shape flat = {x.shape[0], element_count(x.shape) / x.shape[0]};
        add("Reshape", {x.id, integers(flat)}, {}, flat);
        const int64_t n = 1 + pick(40);
        return add("Gemm", {pool_.back().id, constant({n, flat[1]}), constant({n})}, {{"transB", int64_t{1}}}, {flat[0], n});
      }
      case 7: {
        const size_t axis = static_cast<size_t>(pick(static_cast<int64_t>(rank)));
        Shape s = x.shape;
        s[axis] *= 2;
        return add("Concat", {x.id, x.id}, {{"axis", static_cast<int64_t>(axis)}}, s);
      }
      case 8: {
        const size_t axis = static_cast<size_t>(pick(static_cast<int64_t>(rank)));
        const int64_t from = pick(x.shape[axis]), to = from + 1 + pick(x.shape[axis] - from), step = 1 + pick(2);
        Shape s = x.shape;
        s[axis] = (to - from + step - 1) / step;
        return add("Slice", {x.id, integers({from}), integers({to}), integers({static_cast<int64_t>(axis)}), integers({step})}, {}, s);
      }
      case 9: case 10: case 11: return convolution(x, 1);
      case 12: return convolution(x, x.shape[1]);
      case 13: {
        const int64_t k = 1 + pick(3), s = 1 + pick(2), pad = pick(k);
        const Shape out = {x.shape[0], x.shape[1], (x.shape[2] + 2 * pad - k) / s + 1, (x.shape[3] + 2 * pad - k) / s + 1};
        if (out[2] < 1 || out[3] < 1 || x.shape[2] + 2 * pad < k || x.shape[3] + 2 * pad < k) return add("Relu", {x.id}, {}, x.shape);
        return add(pick(2) ? "MaxPool" : "AveragePool", {x.id}, {{"kernel_shape", std::vector<int64_t>{k, k}}, {"strides", std::vector<int64_t>{s, s}}, {"pads", std::vector<int64_t>(4, pad)}}, out);
      }
      case 14: return add("GlobalAveragePool", {x.id}, {}, {x.shape[0], x.shape[1], 1, 1});
      case 15: {
        const std::vector<int64_t> pads = {0, 0, pick(3), pick(3), 0, 0, pick(3), pick(3)};
        return add("Pad", {x.id, integers(pads)}, {}, {x.shape[0], x.shape[1], x.shape[2] + pads[2] + pads[6], x.shape[3] + pads[3] + pads[7]});
      }
      default: {
        const int64_t k = 1 + pick(3), s = 1 + pick(2), co = 1 + pick(8);
        const Shape out = {x.shape[0], co, (x.shape[2] - 1) * s + k, (x.shape[3] - 1) * s + k};
        return add("ConvTranspose", {x.id, constant({x.shape[1], co, k, k}), constant({co})}, {{"kernel_shape", std::vector<int64_t>{k, k}}, {"strides", std::vector<int64_t>{s, s}}}, out);
      }
    }
  }

  void convolution(const Item& x, int64_t groups) {
    const int64_t k = 1 + pick(3), s = 1 + pick(2), d = 1 + pick(2), pad = pick(3), extent = (k - 1) * d + 1;
    const int64_t co = groups > 1 ? x.shape[1] * (1 + pick(2)) : 1 + pick(40);
    const Shape out = {x.shape[0], co, (x.shape[2] + 2 * pad - extent) / s + 1, (x.shape[3] + 2 * pad - extent) / s + 1};
    if (x.shape[2] + 2 * pad < extent || x.shape[3] + 2 * pad < extent) return add("Neg", {x.id}, {}, x.shape);
    add("Conv", {x.id, constant({co, x.shape[1] / groups, k, k}), constant({co})},
        {{"kernel_shape", std::vector<int64_t>{k, k}}, {"strides", std::vector<int64_t>{s, s}}, {"dilations", std::vector<int64_t>{d, d}}, {"pads", std::vector<int64_t>(4, pad)}, {"group", groups}}, out);
  }

  std::mt19937_64 rng_;
  Graph graph_;
  std::vector<Item> pool_;
  int next_ = 0;
};

}  // namespace systole
