#include "sweep/search.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/error.h"

namespace systole {
namespace {

bool dominates(const Objectives& a, const Objectives& b) {
  bool better = false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
    better |= a[i] < b[i];
  }
  return better;
}

int draw(std::mt19937_64& rng, size_t n) { return static_cast<int>(rng() % n); }

/// Points by number of those that dominate them, then by distance to their neighbours along each objective (Deb et al. 2002).
std::vector<int64_t> fittest(const std::vector<std::optional<Objectives>>& done, int64_t count, int64_t keep) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) {
    if (done[static_cast<size_t>(i)]) order.push_back(i);
  }
  std::vector<int> dominated(static_cast<size_t>(count), 0);
  for (int64_t a : order) {
    for (int64_t b : order) dominated[static_cast<size_t>(a)] += dominates(*done[static_cast<size_t>(b)], *done[static_cast<size_t>(a)]);
  }
  std::vector<double> distance(static_cast<size_t>(count), 0);
  if (!order.empty()) {
    for (size_t o = 0; o < done[static_cast<size_t>(order[0])]->size(); ++o) {
      auto sorted = order;
      auto value = [&](int64_t i) { return (*done[static_cast<size_t>(i)])[o]; };
      std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return value(a) < value(b); });
      const double range = value(sorted.back()) - value(sorted.front());
      for (size_t k = 0; k < sorted.size(); ++k) {
        const bool end = k == 0 || k + 1 == sorted.size();
        distance[static_cast<size_t>(sorted[k])] += end ? 1e9 : range > 0 ? (value(sorted[k + 1]) - value(sorted[k - 1])) / range : 0;
      }
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const size_t x = static_cast<size_t>(a), y = static_cast<size_t>(b);
    return dominated[x] != dominated[y] ? dominated[x] < dominated[y] : distance[x] > distance[y];
  });
  if (static_cast<int64_t>(order.size()) > keep) order.resize(static_cast<size_t>(keep));
  return order;
}

}  // namespace

std::vector<bool> pareto_front(const std::vector<std::optional<Objectives>>& points) {
  std::vector<bool> front(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    front[i] = points[i] && std::none_of(points.begin(), points.end(), [&](const auto& other) { return other && dominates(*other, *points[i]); });
  }
  return front;
}

Search::Search(const Space& space, std::string method, int64_t points, uint64_t seed)
    : space_(space), method_(std::move(method)), points_(points), population_(std::clamp<int64_t>(points / 20, 8, 64)), seed_(seed) {
  if (method_ != "grid" && method_ != "random" && method_ != "evolve") fail(ErrorCode::kBadInput, "--search", "'" + method_ + "'", "grid, random or evolve");
  if (points < 0 || points > 10'000'000) fail(ErrorCode::kBadInput, "--points", std::to_string(points), "1 to 10000000");
  if (method_ == "grid") {
    if (points == 0 && space.size() > 1'000'000) fail(ErrorCode::kBadInput, "--search grid", std::to_string(space.size()) + " machines in the space", "at most 1000000", "use --search random or evolve with --points");
    points_ = points == 0 ? space.size() : std::min(points, space.size());
  } else if (points == 0) {
    points_ = std::min<int64_t>(1000, space.size());
  }
  chosen_.resize(method_ == "evolve" ? static_cast<size_t>(points_) : 0);
}

int64_t Search::batch_end(int64_t begin) const { return method_ == "evolve" ? std::min(points_, (begin / population_ + 1) * population_) : points_; }

std::vector<int> Search::random_choices(int64_t point) const {
  std::mt19937_64 rng(seed_ * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(point));
  std::vector<int> c;
  for (const Parameter& p : space_.parameters) c.push_back(draw(rng, p.values.size()));
  return c;
}

std::vector<int> Search::choices(int64_t point, const std::vector<std::optional<Objectives>>& done) {
  if (method_ == "random") return random_choices(point);
  if (method_ == "evolve") return chosen_[static_cast<size_t>(point)] = point < population_ ? random_choices(point) : child(point, done);
  std::vector<int> c;
  for (size_t p = space_.parameters.size(); p-- > 0;) {
    const int64_t n = static_cast<int64_t>(space_.parameters[p].values.size());
    c.insert(c.begin(), static_cast<int>(point % n));
    point /= n;
  }
  return c;
}

std::vector<int> Search::child(int64_t point, const std::vector<std::optional<Objectives>>& done) {
  const int64_t begin = point / population_ * population_;
  if (parents_of_ != begin) parents_ = fittest(done, begin, population_), parents_of_ = begin;
  if (parents_.empty()) return random_choices(point);
  std::mt19937_64 rng(seed_ * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(point));
  // The better of two: parents_ is in the order of fitness.
  auto pick = [&]() -> const std::vector<int>& {
    return chosen_[static_cast<size_t>(parents_[static_cast<size_t>(std::min(draw(rng, parents_.size()), draw(rng, parents_.size())))])];
  };
  const std::vector<int>&a = pick(), &b = pick();
  std::vector<int> c(a.size());
  for (size_t p = 0; p < c.size(); ++p) {
    const int n = static_cast<int>(space_.parameters[p].values.size());
    c[p] = draw(rng, 2) ? a[p] : b[p];
    if (draw(rng, c.size()) == 0) c[p] = draw(rng, 4) == 0 ? draw(rng, static_cast<size_t>(n)) : std::clamp(c[p] + (draw(rng, 2) ? 1 : -1), 0, n - 1);
  }
  return c;
}

}  // namespace systole
