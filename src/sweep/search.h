// Which machines of a space to try: all, a random sample, or the descendants of the best so far.
#pragma once
#include <optional>
#include <vector>

#include "sweep/space.h"

namespace systole {

/// What is minimised.
using Objectives = std::vector<double>;

/// Points that no other point beats in all objectives (as good in all, better in one). Empty entries are infeasible.
std::vector<bool> pareto_front(const std::vector<std::optional<Objectives>>& points);

class Search {
 public:
  /// method: grid, random or evolve. Fails (kBadInput) on another name.
  Search(const Space& space, std::string method, int64_t points, uint64_t seed);
  int64_t points() const { return points_; }
  /// The points [begin, end) can be evaluated once all before `begin` are; begins at 0 and ends at points().
  int64_t batch_end(int64_t begin) const;
  /// Choices of one point; `done` holds the results of the batches before it.
  std::vector<int> choices(int64_t point, const std::vector<std::optional<Objectives>>& done);

 private:
  std::vector<int> child(int64_t point, const std::vector<std::optional<Objectives>>& done);
  std::vector<int> random_choices(int64_t point) const;
  const Space& space_;
  const std::string method_;
  int64_t points_, population_;
  const uint64_t seed_;
  std::vector<std::vector<int>> chosen_;       ///< evolve: of every point so far
  std::vector<int64_t> parents_;               ///< evolve: the fittest before the batch that begins at parents_of_
  int64_t parents_of_ = -1;
};

}  // namespace systole
