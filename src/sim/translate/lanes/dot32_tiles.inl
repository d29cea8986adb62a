// Tiles of dot32 by a `Step`, compiled with DOT_CODE's instruction set; dot32_avx512.cpp includes it for hosts with products of pairs and for others.
// A Step says how many pairs of k one step takes, what it reads of B (Columns<kVectors>) and of a row of A (Row), and multiplies them.

/// kVectors: 1 for a narrow panel, else two per panel.
template <class Step, int kRows, int kVectors>
DOT_CODE void tile(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch) {
  constexpr int kWidth = kVectors == 1 ? 64 : 128;  // bytes of a panel and pair of k
  const Step step;
  Chains<kRows, kVectors> chains(sums);
  const auto* wide = reinterpret_cast<const uint8_t*>(a.wide);
  int filled = 0;
  for (int64_t tap = 0; tap < a.segments; ++tap) {
    const uint8_t* at[kRows];
    if (Step::kInPlace) {
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) at[r] = a.places.at(tap, r);
    }
    for (int64_t pair = 0; pair < a.pairs;) {
      const int here = static_cast<int>(std::min<int64_t>(kPairs - filled, a.pairs - pair));
      for (int i = 0; i < here; i += Step::kPairs) {
        typename Step::template Columns<kVectors> columns;
        columns.load(b + kWidth * i, panel_pitch);
        SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
          const auto row = step.load(Step::kInPlace ? at[r] + Step::kPairBytes * (pair + i) : wide + r * a.pitch * 4 + Step::kPairBytes * i);
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.even[r][c] = Step::multiply(row.even, columns.even[c], chains.even[r][c]);
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.odd[r][c] = Step::multiply(row.odd, columns.odd[c], chains.odd[r][c]);
        }
      }
      b += kWidth * here, wide += Step::kPairBytes * here, pair += here, filled += here;
      if (tap + 1 == a.segments && pair == a.pairs) break;
      if (filled < kPairs) continue;  // the block goes on under the next tap
      chains.template add_to_sums<Step, false>();
      chains.clear();
      filled = 0;
    }
  }
  if (filled < kPairs) chains.fill();
  chains.template add_to_sums<Step, true>();
}

/// kRows pixels of `a` again and again, `tiles` times. kOne: of one segment.
template <class Step, int kRows, int kVectors, bool kOne>
DOT_CODE void point_tiles(const DotSums& sums, const DotPoints& a, int64_t tiles, const uint8_t* panel) {
  constexpr int kWidth = kVectors == 1 ? 64 : 128;
  const Step step;
  const int64_t pitch = a.pitch, segments = kOne ? 1 : a.segments;
  Chains<kRows, kVectors> chains(sums);
  Upcoming ahead = t_upcoming;
  for (int64_t t = 0; t < tiles; ++t) {
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.from[c] = sums.from[c] + t * kRows * sums.from_pitch, chains.to[c] = sums.to[c] + t * kRows * sums.to_pitch;
    chains.from_pitch = sums.from_pitch;
    const uint8_t* b = panel;
    int filled = 0;
    for (int64_t s = 0; s < segments; ++s) {
      const uint8_t* at = a.at[s] + (a.first + t * kRows) * pitch;
      for (int64_t left = a.pairs; left > 0;) {
        const int here = static_cast<int>(std::min<int64_t>(kPairs - filled, left));
        for (int i = 0; i < here; i += Step::kPairs, b += kWidth * Step::kPairs, at += Step::kPairBytes * Step::kPairs) {
          typename Step::template Columns<kVectors> columns;
          columns.load(b, 0);
          SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
            const auto row = step.load(at + r * pitch);
            SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.even[r][c] = Step::multiply(row.even, columns.even[c], chains.even[r][c]);
            SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.odd[r][c] = Step::multiply(row.odd, columns.odd[c], chains.odd[r][c]);
          }
        }
        left -= here, filled += here;
        if (filled < kPairs || (s + 1 == segments && left == 0)) continue;  // the block goes on, or is the last
        chains.template add_to_sums<Step, false>();
        fetch(ahead, 2);
        chains.clear();
        filled = 0;
      }
    }
    if (filled < kPairs) chains.fill();
    chains.template add_to_sums<Step, true>();
    chains.clear();
  }
  t_upcoming = ahead;
}

template <class Step, int kVectors, size_t... I>
Multiply of_rows(int count, std::index_sequence<I...>) {
  static constexpr Multiply kTable[] = {tile<Step, static_cast<int>(I) + 1, kVectors>...};
  return kTable[count - 1];
}
template <class Step>
Multiply kernel(int count, int panels, bool narrow) {
  static constexpr Multiply kByPanels[kDotPanels] = {tile<Step, 1, 2>, tile<Step, 1, 4>, tile<Step, 1, 6>, tile<Step, 1, 8>};
  if (narrow) return of_rows<Step, 1>(count, std::make_index_sequence<kDotNarrowRows>());
  return count == 1 ? kByPanels[panels - 1] : of_rows<Step, 2>(count, std::make_index_sequence<kDotRows>());
}

template <class Step, int kVectors, bool kOne, size_t... I>
MultiplyPoints points_of_rows(int64_t count, std::index_sequence<I...>) {
  static constexpr MultiplyPoints kTable[] = {point_tiles<Step, static_cast<int>(I) + 1, kVectors, kOne>...};
  return kTable[count - 1];
}
template <class Step, bool kOne>
MultiplyPoints points_kernel(int64_t count, bool narrow) {
  return narrow ? points_of_rows<Step, 1, kOne>(count, std::make_index_sequence<Step::kNarrowRows>()) : points_of_rows<Step, 2, kOne>(count, std::make_index_sequence<kDotRows>());
}
