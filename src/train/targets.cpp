#include "train/targets.h"

#include <algorithm>

#include "base/error.h"
#include "train/loss.h"

namespace systole {

Targets::Targets(const std::string& loss, const Shape& logits, int64_t labels_each, double label_smoothing, const std::string& labels_path)
    : loss_(loss), logits_(logits), batch_(logits[0]), labels_each_(labels_each), smoothing_(label_smoothing), classes_given_(takes_classes(loss)), sequences_(loss == "ctc") {
  const int64_t each = element_count(logits) / batch_;
  if (sequences_) {
    if (logits.size() != 3) fail(ErrorCode::kUnsupported, "--loss ctc", "an output " + to_string(logits), "[batch, steps, classes]");
    class_axis_ = 2, classes_ = logits[2];
    return;
  }
  if (!classes_given_) {
    if (labels_each != 1 && labels_each != each) fail(ErrorCode::kMismatch, labels_path, std::to_string(labels_each) + " numbers a sample", "1, or as many as the output has: " + std::to_string(each));
    return;
  }
  class_axis_ = logits.size() > 1 && each / logits[1] == labels_each ? 1 : static_cast<int64_t>(logits.size()) - 1;
  classes_ = logits[static_cast<size_t>(class_axis_)];
  if (labels_each != 1 && each != labels_each * classes_) fail(ErrorCode::kMismatch, labels_path, std::to_string(labels_each) + " labels a sample", "one, or one for each place of the output " + to_string(logits));
  if (labels_each == 1) class_axis_ = 1, classes_ = logits[1];
  for (size_t d = static_cast<size_t>(class_axis_) + 1; d < logits.size(); ++d) inner_ *= logits[d];
  places_ = each / classes_;
}

/// Label of a place: the sample's own where it has one for all.
int64_t Targets::label_of(const Dataset& d, size_t sample, int64_t place) const { return d.labels[sample * static_cast<size_t>(labels_each_) + static_cast<size_t>(labels_each_ == 1 ? 0 : place)]; }

float Targets::number_of(const Dataset& d, size_t sample, int64_t place) const {
  const size_t at = sample * static_cast<size_t>(labels_each_) + static_cast<size_t>(labels_each_ == 1 ? 0 : place);
  return d.numbers.empty() ? static_cast<float>(d.labels[at]) : d.numbers[at];
}

std::vector<int64_t> Targets::sequence_of(const Dataset& d, size_t sample) const {
  const auto first = d.labels.begin() + static_cast<long>(sample) * labels_each_;
  return {first, std::find(first, first + labels_each_, kIgnored)};
}

void Targets::check(const Dataset& d, const std::string& path) const {
  if (d.labels.empty() && d.numbers.empty()) fail(ErrorCode::kBadInput, path, "no labels", "folders per class, or --labels");
  if (d.labels.empty() && (scored() || loss_ == "triplet")) fail(ErrorCode::kBadInput, path, "labels that are not whole numbers", "classes, for --loss " + loss_, "mse, mae, huber, bce and dice learn numbers");
  if (d.labels_each != labels_each_) fail(ErrorCode::kMismatch, path, std::to_string(d.labels_each) + " labels a sample", std::to_string(labels_each_) + ", as the samples to learn from have");
  for (int64_t l : d.labels) {
    const bool ignored = (labels_each_ > 1 || sequences_) && l == kIgnored;
    if (scored() && !ignored && (l < (sequences_ ? 1 : 0) || l >= classes_)) fail(ErrorCode::kBadInput, path, "class " + std::to_string(l), std::string(sequences_ ? "1 (0 is the blank)" : "0") + " to " + std::to_string(classes_ - 1));
  }
  for (size_t i = 0; sequences_ && i < d.samples.size(); ++i) {
    const auto s = sequence_of(d, i);
    int64_t needed = static_cast<int64_t>(s.size());
    for (size_t k = 1; k < s.size(); ++k) needed += s[k] == s[k - 1];  // a blank between
    if (needed > logits_[1]) fail(ErrorCode::kBadInput, path, "sample " + std::to_string(i) + ": a label that needs " + std::to_string(needed) + " steps", "at most the output's " + std::to_string(logits_[1]));
  }
}

Tensor Targets::make(const Dataset& d, const std::vector<size_t>& which, size_t from) const {
  Tensor t(DType::kF32, sequences_ ? Shape{batch_, 2 * labels_each_ + 1, classes_} : logits_);
  const int64_t each = t.count() / batch_;
  const float rest = static_cast<float>(smoothing_ / static_cast<double>(classes_)), own = static_cast<float>(1 - smoothing_) + rest;
  for (int64_t k = 0; k < batch_; ++k) {
    const size_t sample = which[from + static_cast<size_t>(k)];
    float* row = t.data<float>() + k * each;
    if (sequences_) {
      const auto s = sequence_of(d, sample);
      for (size_t i = 0; i < 2 * s.size() + 1; ++i) row[static_cast<int64_t>(i) * classes_ + (i % 2 ? s[i / 2] : 0)] = 1;
      continue;
    }
    if (!classes_given_) {
      for (int64_t e = 0; e < each; ++e) row[e] = number_of(d, sample, e);
      continue;
    }
    for (int64_t p = 0; p < places_; ++p) {
      const int64_t label = label_of(d, sample, p);
      for (int64_t c = 0; c < classes_; ++c) row[element_of(p, c)] = label == kIgnored ? 0 : c == label ? own : rest;
    }
  }
  return t;
}

int64_t Targets::counted(const Dataset& d, const std::vector<size_t>& which, size_t from) const {
  if (loss_ == "dice" || loss_ == "triplet" || sequences_) return batch_;
  if (!classes_given_) return element_count(logits_);
  int64_t n = 0;
  for (size_t k = 0; k < static_cast<size_t>(batch_); ++k) {
    for (int64_t p = 0; p < places_; ++p) n += label_of(d, which[from + k], p) != kIgnored;
  }
  return n;
}

/// The greatest class of each step, repetitions as one, without blanks.
std::vector<int64_t> Targets::best_path(const Tensor& logits, int64_t sample) const {
  std::vector<int64_t> path;
  int64_t before = 0;
  for (int64_t t = 0; t < logits_[1]; ++t) {
    const int64_t row = (sample * logits_[1] + t) * classes_;
    int64_t best = 0;
    for (int64_t c = 1; c < classes_; ++c) best = logits.at(row + c) > logits.at(row + best) ? c : best;
    if (best && best != before) path.push_back(best);
    before = best;
  }
  return path;
}

Targets::Score Targets::accuracy(const Tensor& logits, const Dataset& d, const std::vector<size_t>& which, size_t from, size_t count) const {
  const int64_t each = logits.count() / batch_;
  Score score;
  for (size_t k = 0; k < count; ++k) {
    if (sequences_) {
      score.right += best_path(logits, static_cast<int64_t>(k)) == sequence_of(d, which[from + k]), ++score.counted;
      continue;
    }
    const int64_t row = static_cast<int64_t>(k) * each;
    for (int64_t p = 0; p < places_; ++p) {
      const int64_t label = label_of(d, which[from + k], p);
      if (label == kIgnored) continue;
      int64_t best = 0;
      for (int64_t c = 1; c < classes_; ++c) best = logits.at(row + element_of(p, c)) > logits.at(row + element_of(p, best)) ? c : best;
      score.right += best == label, ++score.counted;
    }
  }
  return score;
}

}  // namespace systole
