// Strings and the classical operators around them: StringNormalizer, StringConcat, StringSplit, RegexFullMatch,
// TfIdfVectorizer, LabelEncoder, Binarizer.
#include <re2/re2.h>

#include <algorithm>
#include <cmath>
#include <map>

#include <set>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

const Tensor& strings(const HostCall& c, size_t k) {
  const Tensor& t = c.in(k);
  if (t.type != DType::kString) malformed(c.node, to_string(t.type) + std::string(" as input ") + std::to_string(k), "strings");
  return t;
}

/// ASCII letters, and Latin-1 and Greek and Cyrillic in UTF-8 through the C library's tables would depend on the locale:
/// other letters stay as they are.
std::string change_case(std::string s, const std::string& action) {
  for (char& ch : s) {
    if (action == "LOWER" && ch >= 'A' && ch <= 'Z') ch = static_cast<char>(ch + 32);
    if (action == "UPPER" && ch >= 'a' && ch <= 'z') ch = static_cast<char>(ch - 32);
  }
  return s;
}

void run_normalizer(HostCall& c) {
  const Tensor& x = strings(c, 0);
  const std::string action = c.op().text("case_change_action", "NONE");
  const bool sensitive = c.op().integer("is_case_sensitive", 0) != 0;
  std::set<std::string> stop;
  for (const auto& w : c.op().texts("stopwords")) stop.insert(sensitive ? w : change_case(w, "LOWER"));
  std::vector<std::string> kept;
  for (const auto& s : x.strings) {
    if (!stop.count(sensitive ? s : change_case(s, "LOWER"))) kept.push_back(change_case(s, action));
  }
  if (kept.empty()) kept.emplace_back();
  Shape shape = x.shape;
  if (shape.empty()) shape = {1};
  if (shape.size() > 2 || (shape.size() == 2 && shape[0] != 1)) malformed(c.node, "shape " + to_string(x.shape), "[C] or [1,C]");
  shape.back() = static_cast<int64_t>(kept.size());
  c.make(0, DType::kString, shape).strings = kept;
}

void run_concat(HostCall& c) {
  const Tensor &a = strings(c, 0), &b = strings(c, 1);
  const Shape shape = broadcast_shapes(c.node, a.shape, b.shape);
  const auto sa = broadcast_strides(a.shape, shape), sb = broadcast_strides(b.shape, shape);
  Tensor& y = c.make(0, DType::kString, shape);
  Odometer at(shape);
  for (auto& s : y.strings) {
    s = a.strings[static_cast<size_t>(offset_of(at.index, sa))] + b.strings[static_cast<size_t>(offset_of(at.index, sb))];
    at.next();
  }
}

/// Pieces of one string; an empty delimiter means runs of whitespace.
std::vector<std::string> pieces(const std::string& s, const std::string& delimiter, int64_t most) {
  std::vector<std::string> list;
  size_t at = 0;
  const auto space = [](char ch) { return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r' || ch == '\v' || ch == '\f'; };
  while (true) {
    if (delimiter.empty()) {
      while (at < s.size() && space(s[at])) ++at;
      if (at == s.size()) return list;
    }
    size_t end = at;
    if (delimiter.empty()) while (end < s.size() && !space(s[end])) ++end;
    else end = s.find(delimiter, at);
    if (end == std::string::npos || end >= s.size() || (most >= 0 && static_cast<int64_t>(list.size()) == most)) {
      list.push_back(s.substr(at));
      if (delimiter.empty()) while (!list.back().empty() && space(list.back().back())) list.back().pop_back();
      return list;
    }
    list.push_back(s.substr(at, end - at));
    at = end + std::max<size_t>(delimiter.size(), 1);
  }
}

void run_split(HostCall& c) {
  const Tensor& x = strings(c, 0);
  const std::string delimiter = c.op().text("delimiter", "");
  const int64_t most = c.op().has("maxsplit") ? c.op().integer("maxsplit", -1) : -1;
  std::vector<std::vector<std::string>> all;
  size_t longest = 0;
  for (const auto& s : x.strings) all.push_back(pieces(s, delimiter, most)), longest = std::max(longest, all.back().size());
  Shape shape = x.shape;
  shape.push_back(static_cast<int64_t>(longest));
  Tensor y = blank(DType::kString, shape), counts(DType::kI64, x.shape);
  for (size_t i = 0; i < all.size(); ++i) {
    std::copy(all[i].begin(), all[i].end(), y.strings.begin() + static_cast<long>(i * longest));
    counts.set_int(static_cast<int64_t>(i), static_cast<int64_t>(all[i].size()));
  }
  c.give(0, std::move(y));
  c.give(1, std::move(counts));
}

void run_regex(HostCall& c) {
  const Tensor& x = strings(c, 0);
  RE2::Options options(RE2::Quiet);
  const RE2 pattern(c.op().text("pattern", ""), options);
  if (!pattern.ok()) malformed(c.node, "pattern '" + c.op().text("pattern", "") + "': " + pattern.error(), "a regular expression of RE2");
  Tensor& y = c.make(0, DType::kBool, x.shape);
  for (size_t i = 0; i < x.strings.size(); ++i) y.set_int(static_cast<int64_t>(i), RE2::FullMatch(x.strings[i], pattern));
}

/// Counts of n-grams with skips, as TF, IDF or TF-IDF. Opset 9.
void run_tfidf(HostCall& c) {
  const Tensor& x = c.in(0);
  const OnnxOp& op = c.op();
  const auto starts = op.integers("ngram_counts"), places = op.integers("ngram_indexes"), ints = op.integers("pool_int64s");
  const auto texts = op.texts("pool_strings");
  const auto weights = op.reals("weights");
  const int64_t shortest = op.integer("min_gram_length", 1), longest = op.integer("max_gram_length", 1), skips = op.integer("max_skip_count", 0);
  auto item = [&](size_t i) { return texts.empty() ? std::to_string(ints[i]) : texts[i]; };
  const size_t pool = texts.empty() ? ints.size() : texts.size();
  std::map<std::vector<std::string>, size_t> grams;
  size_t number = 0;
  for (size_t n = 0; n < starts.size(); ++n) {
    const size_t from = static_cast<size_t>(starts[n]), to = n + 1 < starts.size() ? static_cast<size_t>(starts[n + 1]) : pool;
    if (starts[n] < 0 || to > pool) malformed(c.node, "ngram_counts outside the pool", "offsets of the pool");
    for (size_t i = from; i + n < to; i += n + 1) {
      std::vector<std::string> gram;
      for (size_t k = 0; k <= n; ++k) gram.push_back(item(i + k));
      grams[gram] = number++;
    }
  }
  if (places.size() < number || (!weights.empty() && weights.size() < number)) malformed(c.node, std::to_string(places.size()) + " ngram_indexes", std::to_string(number));
  int64_t width = 0;
  for (int64_t p : places) width = std::max(width, p + 1);
  const int64_t columns = x.shape.empty() ? 1 : x.shape.back(), rows = columns ? x.count() / columns : 0;
  Shape shape(x.shape.begin(), x.shape.empty() ? x.shape.end() : x.shape.end() - 1);
  shape.push_back(width);
  Tensor& y = c.make(0, DType::kF32, shape);
  auto word = [&](int64_t i) { return x.type == DType::kString ? x.strings[static_cast<size_t>(i)] : std::to_string(x.int_at(i)); };
  std::vector<double> counts(static_cast<size_t>(rows) * number, 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = shortest; n <= longest; ++n) {
      for (int64_t skip = 0; skip <= (n == 1 ? 0 : skips); ++skip) {
        for (int64_t at = 0; at + (n - 1) * (skip + 1) < columns; ++at) {
          std::vector<std::string> gram;
          for (int64_t k = 0; k < n; ++k) gram.push_back(word(r * columns + at + k * (skip + 1)));
          const auto it = grams.find(gram);
          if (it != grams.end()) ++counts[static_cast<size_t>(r) * number + it->second];
        }
      }
    }
  }
  const std::string mode = op.text("mode", "TF");
  for (int64_t r = 0; r < rows; ++r) {
    for (size_t g = 0; g < number; ++g) {
      const double tf = counts[static_cast<size_t>(r) * number + g], weight = weights.empty() ? 1 : static_cast<double>(weights[g]);
      y.set(r * width + places[g], mode == "TF" ? tf : mode == "IDF" ? (tf > 0) * weight : tf * weight);
    }
  }
}

std::string key_text(const Tensor& t, int64_t i) { return t.type == DType::kString ? t.strings[static_cast<size_t>(i)] : is_float(t.type) ? std::to_string(t.at(i)) : std::to_string(t.int_at(i)); }

/// The list of an attribute triple (keys_int64s, keys_floats, keys_strings, keys_tensor) as a tensor; empty when absent.
TensorPtr attribute_list(const OnnxOp& op, const std::string& prefix) {
  if (const auto it = op.attributes.find(prefix + "_tensor"); it != op.attributes.end() && std::holds_alternative<TensorPtr>(it->second)) return std::get<TensorPtr>(it->second);
  const auto ints = op.integers((prefix + "_int64s").c_str());
  const auto reals = op.reals((prefix + "_floats").c_str());
  const auto texts = op.texts((prefix + "_strings").c_str());
  if (!ints.empty()) return std::make_shared<Tensor>(Tensor::from_ints(ints, {static_cast<int64_t>(ints.size())}));
  if (!reals.empty()) return std::make_shared<Tensor>(Tensor::from_floats(reals, {static_cast<int64_t>(reals.size())}));
  if (texts.empty()) return nullptr;
  auto t = std::make_shared<Tensor>(blank(DType::kString, {static_cast<int64_t>(texts.size())}));
  t->strings = texts;
  return t;
}

void run_label_encoder(HostCall& c) {
  const Tensor& x = c.in(0);
  const OnnxOp& op = c.op();
  TensorPtr keys = attribute_list(op, "keys"), values = attribute_list(op, "values");
  if (!keys || !values || keys->count() != values->count()) malformed(c.node, "no keys and values of one length", "keys_* and values_*");
  std::map<std::string, int64_t> index;
  for (int64_t i = keys->count(); i-- > 0;) index[key_text(*keys, i)] = i;
  Tensor otherwise = blank(values->type, {1});
  if (values->type == DType::kString) otherwise.strings[0] = op.text("default_string", "_Unused");
  else if (is_float(values->type)) otherwise.set(0, static_cast<double>(op.real("default_float", -0.0f)));
  else otherwise.set_int(0, op.integer("default_int64", -1));
  if (const auto it = op.attributes.find("default_tensor"); it != op.attributes.end() && std::holds_alternative<TensorPtr>(it->second) && std::get<TensorPtr>(it->second)->count() == 1) otherwise = *std::get<TensorPtr>(it->second);
  Tensor& y = c.make(0, values->type, x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) {
    const auto it = index.find(key_text(x, i));
    it == index.end() ? copy_element(y, i, otherwise, 0) : copy_element(y, i, *values, it->second);
  }
}

void run_binarizer(HostCall& c) {
  const Tensor& x = c.in(0);
  const double threshold = static_cast<double>(c.op().real("threshold", 0));
  Tensor& y = c.make(0, x.type, x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) y.set(i, x.at(i) > threshold);
}

constexpr HostOperator kOperators[] = {
    {"", "StringNormalizer", run_normalizer, kAllInputs}, {"", "StringConcat", run_concat}, {"", "StringSplit", run_split, kAllInputs}, {"", "RegexFullMatch", run_regex},
    {"", "TfIdfVectorizer", run_tfidf}, {"ai.onnx.ml", "LabelEncoder", run_label_encoder}, {"ai.onnx.ml", "Binarizer", run_binarizer},
};

}  // namespace

std::span<const HostOperator> host_text() { return kOperators; }

}  // namespace systole
