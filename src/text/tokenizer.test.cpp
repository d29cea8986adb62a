#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace systole {
namespace {

std::string write(const char* name, const std::string& text) {
  const std::string path = testing::TempDir() + name;
  write_file(path, text);
  return path;
}

TEST(Tokenizer, ByteLevelMergesInRankOrderAndComesBack) {
  // G with a dot above stands for the space (byte 32).
  const Tokenizer t(write("bpe.json", R"({"model":{"type":"BPE","vocab":{"h":0,"e":1,"l":2,"o":3,"Ġ":4,"he":5,"ll":6,"hell":7,"hello":8,"Ġhello":9,"!":10},
    "merges":["h e","l l","he ll","hell o","Ġ hello"]},"added_tokens":[{"id":11,"content":"<end>"}]})"));
  EXPECT_EQ(t.encode("hello hello!<end>"), (std::vector<int64_t>{8, 9, 10, 11}));
  EXPECT_EQ(t.decode({8, 9, 10, 11}), "hello hello!<end>");
  EXPECT_EQ(t.encode("hel"), (std::vector<int64_t>{5, 2}));
}

TEST(Tokenizer, BytesStandInForUnknownCharacters) {
  const Tokenizer t(write("meta.json", R"({"model":{"type":"BPE","byte_fallback":true,"vocab":{"<unk>":0,"▁":1,"a":2,"▁a":3,"<0xC3>":4,"<0xA9>":5},"unk_token":"<unk>","merges":["▁ a"]}})"));
  EXPECT_EQ(t.encode("a é"), (std::vector<int64_t>{3, 1, 4, 5}));
  EXPECT_EQ(t.decode({3, 1, 4, 5}), " a é");
}

TEST(Tokenizer, WordPiecesAreGreedy) {
  const Tokenizer t(write("wp.json", R"({"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"un":1,"##aff":2,"##able":3,"!":4}},"normalizer":{"lowercase":true}})"));
  EXPECT_EQ(t.encode("Unaffable! xyz"), (std::vector<int64_t>{1, 2, 3, 4, 0}));
  EXPECT_EQ(t.decode({1, 2, 3, 4}), "unaffable !");
}

TEST(Tokenizer, DamageIsAnError) {
  EXPECT_THROW(Tokenizer(write("bad1.json", "{")), Failure);
  EXPECT_THROW(Tokenizer(write("bad2.json", R"({"model":{"type":"Unigram","vocab":{}}})")), Failure);
  EXPECT_THROW(Tokenizer(write("bad3.json", R"({"model":{"type":"BPE","vocab":{"a":"x"}}})")), Failure);
  EXPECT_THROW(Tokenizer("no such file"), Failure);
}

}  // namespace
}  // namespace systole
