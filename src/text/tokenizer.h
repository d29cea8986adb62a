// Text to token ids and back, from a tokenizer.json: byte-level BPE (GPT-2), BPE with byte fallback (Llama), WordPiece (BERT).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace systole {

class Tokenizer {
 public:
  /// Fails (kIo, kBadInput, kUnsupported) with the file and what is wrong.
  explicit Tokenizer(const std::string& path);
  std::vector<int64_t> encode(const std::string& text) const;
  std::string decode(const std::vector<int64_t>& ids) const;
  /// The id of a token, or -1.
  int64_t id_of(const std::string& token) const;

 private:
  enum class Kind { kByteLevel, kMetaspace, kWordPiece };
  void add_word(const std::string& word, std::vector<int64_t>& ids) const;
  void add_bpe(const std::vector<std::string>& pieces, std::vector<int64_t>& ids) const;
  void add_word_pieces(const std::string& word, std::vector<int64_t>& ids) const;
  void encode_plain(const std::string& text, std::vector<int64_t>& ids) const;

  Kind kind_ = Kind::kByteLevel;
  bool lower_case_ = false, byte_fallback_ = false;
  std::string prefix_ = "##";
  int64_t unknown_ = -1;
  std::unordered_map<std::string, int64_t> vocabulary_;
  std::unordered_map<int64_t, std::string> words_;
  std::map<std::pair<std::string, std::string>, int> ranks_;
  std::vector<std::string> special_;  ///< longest first
};

}  // namespace systole
