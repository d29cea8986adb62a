// Files of more than one part: read and named by several threads.
#include "base/file.h"

#include <gtest/gtest.h>

#include <random>

#include "base/content_key.h"
#include "base/parallel.h"

namespace systole {
namespace {

std::string_view text(const Bytes& b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

TEST(Files, LargeOnesAreReadWholeAndNamedByEveryByte) {
  const std::string path = testing::TempDir() + "/large.bin";
  std::vector<uint8_t> bytes((size_t{20} << 20) + 12345);
  std::mt19937 rng(1);
  for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    const uint32_t v = static_cast<uint32_t>(rng());
    std::copy_n(reinterpret_cast<const uint8_t*>(&v), 4, bytes.begin() + static_cast<long>(i));
  }
  const Bytes all(bytes);
  write_pieces(path, {all.slice(0, 1000), all.slice(1000, bytes.size() - 1000)});
  EXPECT_TRUE(text(read_shared(path)) == text(all));
  EXPECT_TRUE(text(map_file(path)) == text(all));
  const std::string key = content_key(text(all));
  set_thread_count(1);
  EXPECT_EQ(content_key(text(read_shared(path))), key);
  set_thread_count(0);
  for (size_t at : {size_t{0}, size_t{8} << 20, (size_t{16} << 20) - 1, bytes.size() - 1}) {
    std::vector<uint8_t> other = bytes;
    other[at] ^= 1;
    EXPECT_NE(content_key(text(other)), key) << at;
  }
  EXPECT_NE(content_key(text(all).substr(0, bytes.size() - 1)), key);
}

}  // namespace
}  // namespace systole
