#include "text/tokenizer.h"

#include <re2/re2.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace systole {
namespace {

using nlohmann::json;
const char* const kSpaceMark = "\xE2\x96\x81";  // U+2581

std::string utf8(uint32_t c) {
  std::string s;
  if (c < 0x80) s += static_cast<char>(c);
  else if (c < 0x800) s += static_cast<char>(0xC0 | c >> 6), s += static_cast<char>(0x80 | (c & 63));
  else s += static_cast<char>(0xE0 | c >> 12), s += static_cast<char>(0x80 | (c >> 6 & 63)), s += static_cast<char>(0x80 | (c & 63));
  return s;
}

/// GPT-2 writes bytes as printable characters: itself where it is one, U+0100 on otherwise (Radford et al. 2019, encoder.py).
const std::vector<std::string>& byte_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) list.push_back((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? utf8(b) : utf8(next++));
    return list;
  }();
  return names;
}

std::vector<std::string> characters(const std::string& s) {
  std::vector<std::string> list;
  for (size_t i = 0; i < s.size();) {
    const uint8_t b = static_cast<uint8_t>(s[i]);
    const size_t n = std::min<size_t>(s.size() - i, b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4);
    list.push_back(s.substr(i, n));
    i += n;
  }
  return list;
}

/// Words as GPT-2 cuts text: contractions, letters, digits, other marks, each with a space in front; runs of spaces leave
/// their last one to the word behind.
std::vector<std::string> gpt2_words(const std::string& text) {
  static const RE2 pattern("('s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+)");
  std::vector<std::string> words;
  re2::StringPiece rest(text);
  re2::StringPiece word;
  while (!rest.empty()) {
    if (!RE2::PartialMatch(rest, pattern, &word) || word.data() != rest.data()) {
      words.emplace_back(rest.data(), 1);  // not UTF-8: byte by byte
      rest.remove_prefix(1);
      continue;
    }
    size_t n = word.size();
    const bool spaces = std::all_of(word.begin(), word.end(), [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; });
    if (spaces && n > 1 && n < rest.size()) --n;
    words.emplace_back(word.data(), n);
    rest.remove_prefix(n);
  }
  return words;
}

}  // namespace

Tokenizer::Tokenizer(const std::string& path) {
  const auto bytes = read_file(path, 1 << 28);
  json j;
  try {
    j = json::parse(bytes.begin(), bytes.end());
    const json& model = j.at("model");
    const std::string type = model.value("type", "BPE");
    for (const auto& [token, id] : model.at("vocab").items()) vocabulary_[token] = id.get<int64_t>();
    for (const auto& t : j.value("added_tokens", json::array())) {
      vocabulary_[t.at("content").get<std::string>()] = t.at("id").get<int64_t>();
      special_.push_back(t.at("content").get<std::string>());
    }
    if (type == "WordPiece") {
      kind_ = Kind::kWordPiece;
      prefix_ = model.value("continuing_subword_prefix", "##");
      if (j.contains("normalizer") && j["normalizer"].is_object()) lower_case_ = j["normalizer"].value("lowercase", false);
    } else if (type == "BPE") {
      byte_fallback_ = model.value("byte_fallback", false);
      kind_ = byte_fallback_ || vocabulary_.count(kSpaceMark) ? Kind::kMetaspace : Kind::kByteLevel;
      int rank = 0;
      for (const auto& m : model.at("merges")) {
        std::string a, b;
        if (m.is_array()) a = m.at(0).get<std::string>(), b = m.at(1).get<std::string>();
        else {
          const std::string s = m.get<std::string>();
          const size_t space = s.find(' ', 1);
          a = s.substr(0, space), b = space == std::string::npos ? "" : s.substr(space + 1);
        }
        ranks_[{a, b}] = rank++;
      }
    } else {
      fail(ErrorCode::kUnsupported, path, "a tokenizer of type '" + type + "'", "BPE or WordPiece");
    }
    if (model.contains("unk_token") && model["unk_token"].is_string()) unknown_ = id_of(model["unk_token"].get<std::string>());
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadInput, path, e.what(), "a tokenizer.json with model.vocab and model.merges");
  }
  for (const auto& [token, id] : vocabulary_) words_[id] = token;
  std::sort(special_.begin(), special_.end(), [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

int64_t Tokenizer::id_of(const std::string& token) const {
  const auto it = vocabulary_.find(token);
  return it == vocabulary_.end() ? -1 : it->second;
}

/// Merges the pair of the lowest rank until none is left.
void Tokenizer::add_bpe(const std::vector<std::string>& start, std::vector<int64_t>& ids) const {
  std::vector<std::string> pieces = start;
  while (pieces.size() > 1) {
    size_t best = pieces.size();
    int rank = INT32_MAX;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      const auto it = ranks_.find({pieces[i], pieces[i + 1]});
      if (it != ranks_.end() && it->second < rank) rank = it->second, best = i;
    }
    if (best == pieces.size()) break;
    pieces[best] += pieces[best + 1];
    pieces.erase(pieces.begin() + static_cast<long>(best) + 1);
  }
  for (const std::string& p : pieces) {
    const int64_t id = id_of(p);
    if (id >= 0) ids.push_back(id);
    else if (byte_fallback_) {
      for (char c : p) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(static_cast<uint8_t>(c)));
        ids.push_back(std::max<int64_t>(id_of(name), unknown_ < 0 ? 0 : unknown_));
      }
    } else if (unknown_ >= 0) ids.push_back(unknown_);
  }
}

void Tokenizer::add_word_pieces(const std::string& word, std::vector<int64_t>& ids) const {
  std::vector<int64_t> found;
  for (size_t at = 0; at < word.size();) {
    size_t end = word.size();
    int64_t id = -1;
    while (end > at && (id = id_of((at ? prefix_ : "") + word.substr(at, end - at))) < 0) --end;
    if (id < 0) return ids.push_back(std::max<int64_t>(unknown_, 0));
    found.push_back(id);
    at = end;
  }
  ids.insert(ids.end(), found.begin(), found.end());
}

void Tokenizer::encode_plain(const std::string& text, std::vector<int64_t>& ids) const {
  if (text.empty()) return;
  if (kind_ == Kind::kByteLevel) {
    for (const std::string& word : gpt2_words(text)) {
      std::vector<std::string> pieces;
      for (char c : word) pieces.push_back(byte_names()[static_cast<uint8_t>(c)]);
      add_bpe(pieces, ids);
    }
  } else if (kind_ == Kind::kMetaspace) {
    std::string marked = kSpaceMark;
    for (char c : text) marked += c == ' ' ? std::string(kSpaceMark) : std::string(1, c);
    add_bpe(characters(marked), ids);
  } else {
    std::string word;
    auto flush = [&] {
      if (!word.empty()) add_word_pieces(word, ids);
      word.clear();
    };
    for (char c : text) {
      const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r', mark = c > 32 && c < 127 && !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
      if (space || mark) flush();
      if (mark) add_word_pieces(std::string(1, c), ids);
      else if (!space) word += lower_case_ && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    flush();
  }
}

std::vector<int64_t> Tokenizer::encode(const std::string& text) const {
  std::vector<int64_t> ids;
  std::string plain;
  for (size_t at = 0; at < text.size();) {
    const auto special = std::find_if(special_.begin(), special_.end(), [&](const std::string& s) { return !s.empty() && text.compare(at, s.size(), s) == 0; });
    if (special == special_.end()) {
      plain += text[at++];
      continue;
    }
    encode_plain(plain, ids);
    plain.clear();
    ids.push_back(id_of(*special));
    at += special->size();
  }
  encode_plain(plain, ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids) const {
  static const std::unordered_map<std::string, char> bytes = [] {
    std::unordered_map<std::string, char> m;
    for (size_t b = 0; b < 256; ++b) m[byte_names()[b]] = static_cast<char>(b);
    return m;
  }();
  std::string text;
  for (int64_t id : ids) {
    const auto it = words_.find(id);
    if (it == words_.end()) continue;
    const std::string& word = it->second;
    const bool special = std::find(special_.begin(), special_.end(), word) != special_.end();
    unsigned byte = 0;
    if (special) text += word;
    else if (kind_ == Kind::kByteLevel) {
      for (const std::string& c : characters(word)) text += bytes.count(c) ? std::string(1, bytes.at(c)) : c;
    } else if (kind_ == Kind::kMetaspace) {
      if (word.size() == 6 && std::sscanf(word.c_str(), "<0x%02X>", &byte) == 1) text += static_cast<char>(byte);
      else
        for (const std::string& c : characters(word)) text += c == kSpaceMark ? " " : c;
    } else {
      const bool joins = word.compare(0, prefix_.size(), prefix_) == 0;
      text += joins ? word.substr(prefix_.size()) : (text.empty() ? "" : " ") + word;
    }
  }
  return text;
}

}  // namespace systole
