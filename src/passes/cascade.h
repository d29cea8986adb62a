// Layers of an image whose rows are made of rows: which rows a stripe of the last one's makes of each, and which it holds.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Rows [lo, hi) of a tensor [1, H, W, C].
struct Rows {
  int64_t lo = 0, hi = 0;
  int64_t count() const { return hi > lo ? hi - lo : 0; }
};
/// Elements of one of them.
inline int64_t row_elements(const Shape& shape) { return shape[2] * shape[3]; }

/// Rows of input `k` that the node reads for these rows of its output.
Rows rows_needed(const Graph& graph, const Node& node, size_t k, const Rows& made);

/// The move for these rows of its output, of which each row is made of the same row of every input; `first` is the first row of each input that is
/// there. Nothing where a row is made of others.
std::optional<Move> rows_of_move(const Graph& graph, const Node& node, const Rows& made, const std::vector<int64_t>& first);

/// What a stripe makes of each value, and what of it lies in the scratchpad then: some of it may be left of the stripe before.
struct Stripe {
  std::map<ValueId, Rows> made, held;
};

/// A run of nodes that make rows of rows, of which the last one's output alone is needed by others.
class Cascade {
 public:
  Cascade(const Graph& g, const Uses& uses) : g_(g), uses_(uses) {}

  const std::vector<size_t>& nodes() const { return nodes_; }
  bool makes(ValueId v) const { return made_.count(v) != 0; }
  ValueId result() const { return g_.nodes[nodes_.back()].outputs[0]; }

  /// Takes the node in, a contraction with constant weights, a map or a move, where it makes rows of rows of what the run makes.
  bool add(size_t n);
  /// Whether others need nothing but the last result.
  bool may_end() const;
  /// Stripes of `rows` rows of the result.
  std::vector<Stripe> stripes(int64_t rows) const;

 private:
  bool suits(const Node& node) const;
  bool suits_contract(const Node& node) const;
  bool suits_map(const Node& node) const;
  bool of_product(ValueId v) const;
  /// Whether even its first and last row read a row of input `k`, not the padding alone.
  bool sees_rows(const Node& node, size_t k) const;

  const Graph& g_;
  const Uses& uses_;
  std::vector<size_t> nodes_;
  std::set<ValueId> made_;
};

}  // namespace systole
