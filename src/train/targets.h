// What a loss is given to compare outputs with, made of a data set's labels; and how many outputs are right.
#pragma once
#include <string>
#include <vector>

#include "runtime/dataset.h"

namespace systole {

class Targets {
 public:
  /// `logits`: the output of a batch. Fails (kMismatch, kUnsupported) where labels of this number per sample do not suit it.
  Targets(const std::string& loss, const Shape& logits, int64_t labels_each, double label_smoothing, const std::string& labels_path);

  int64_t class_axis() const { return class_axis_; }  ///< of the output: 1, or the last where the labels fill the other axes
  /// Fails (kBadInput, kMismatch) on labels that this output cannot have.
  void check(const Dataset& d, const std::string& path) const;

  /// Of a batch that begins with sample which[from]: shares of the classes, smoothed; the number itself, in every element of the row where
  /// a sample has one; for ctc the label with blanks around and between, one-hot, [N, 2 L + 1, classes].
  Tensor make(const Dataset& d, const std::vector<size_t>& which, size_t from) const;
  /// What the sum of losses is divided by: places whose label counts, elements of the output, or samples.
  int64_t counted(const Dataset& d, const std::vector<size_t>& which, size_t from) const;

  /// Right ones of those that count.
  struct Score {
    int64_t right = 0, counted = 0;
    void add(const Score& s) { right += s.right, counted += s.counted; }
    double percent() const { return 100 * static_cast<double>(right) / static_cast<double>(counted ? counted : 1); }
  };
  bool scored() const { return classes_given_ || sequences_; }
  /// Places whose greatest value is at the label; for ctc, samples whose best path spells it.
  Score accuracy(const Tensor& logits, const Dataset& d, const std::vector<size_t>& which, size_t from, size_t count) const;

  static constexpr int64_t kIgnored = -1;  ///< a label that does not count

 private:
  int64_t label_of(const Dataset& d, size_t sample, int64_t place) const;
  float number_of(const Dataset& d, size_t sample, int64_t place) const;
  int64_t element_of(int64_t place, int64_t c) const { return place / inner_ * classes_ * inner_ + c * inner_ + place % inner_; }
  std::vector<int64_t> sequence_of(const Dataset& d, size_t sample) const;
  std::vector<int64_t> best_path(const Tensor& logits, int64_t sample) const;

  const std::string loss_;
  const Shape logits_;
  const int64_t batch_, labels_each_;
  const double smoothing_;
  const bool classes_given_, sequences_;
  int64_t classes_ = 0, class_axis_ = 1, inner_ = 1, places_ = 1;
};

}  // namespace systole
