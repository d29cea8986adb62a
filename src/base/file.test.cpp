// Files of more than one part: read and named by several threads.
#include "base/file.h"

#include <gtest/gtest.h>

#include <filesystem>
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

TEST(Files, MappedBytesAreReadOnceThroughTheSystem) {
  const std::string path = testing::TempDir() + "/mapped.bin";
  std::vector<uint8_t> bytes((size_t{1} << 20) + 7);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  write_pieces(path, {Bytes(bytes)});
  const size_t size = size_t{1} << 16;
  {
    const Bytes mapped = map_file(path), other = map_file(path);
    for (size_t at : {size_t{0}, size_t{12345}, bytes.size() - size}) {
      const uint8_t* read = read_once(mapped.data() + at, size);
      EXPECT_NE(read, mapped.data() + at);
      EXPECT_TRUE(std::equal(read, read + size, bytes.begin() + static_cast<std::ptrdiff_t>(at))) << at;
      std::vector<uint8_t> copy(size);
      copy_once(other.data() + at, size, copy.data());
      EXPECT_TRUE(std::equal(copy.begin(), copy.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at))) << at;
    }
    EXPECT_EQ(read_once(mapped.data(), 100), mapped.data()) << "few bytes are not worth a call";
    EXPECT_EQ(read_once(mapped.data() + bytes.size() - size + 1, size), mapped.data() + bytes.size() - size + 1) << "not all of it is the file's";
    std::filesystem::resize_file(path, size);  // cut while in use: what is left can be read
    EXPECT_NE(read_once(mapped.data(), size), mapped.data());
    EXPECT_EQ(read_once(mapped.data() + 1, size), mapped.data() + 1);
  }
  EXPECT_EQ(read_once(bytes.data(), size), bytes.data()) << "no file's";
  const Bytes small = map_file(path);  // of 64 KiB by now: it is not kept open
  EXPECT_EQ(read_once(small.data(), size), small.data());
}

}  // namespace
}  // namespace systole
