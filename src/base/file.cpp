#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/parallel.h"

namespace systole {
namespace fs = std::filesystem;

namespace {

/// Size of a regular file within the limit.
uint64_t checked_size(const std::string& path, uint64_t limit_bytes) {
  std::error_code ec;
  if (!fs::is_regular_file(path, ec)) fail(ErrorCode::kIo, path, "no such file", "a regular file that can be read");
  const uint64_t size = fs::file_size(path, ec);
  if (ec) fail(ErrorCode::kIo, path, ec.message(), "a file whose size can be read");
  if (size > limit_bytes) {
    fail(ErrorCode::kResource, path, "the file has " + std::to_string(size) + " bytes", "at most " + std::to_string(limit_bytes));
  }
  return size;
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, uint64_t limit_bytes) {
  const uint64_t size = checked_size(path, limit_bytes);
  std::vector<uint8_t> bytes(size);
  std::ifstream in(path, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)) && size > 0) {
    fail(ErrorCode::kIo, path, std::strerror(errno), "a file that can be read to its end");
  }
  return bytes;
}

Bytes read_shared(const std::string& path, uint64_t limit_bytes) {
  constexpr uint64_t kLarge = uint64_t{8} << 20;
  const uint64_t size = checked_size(path, limit_bytes);
  if (size < kLarge) return read_file(path, limit_bytes);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(ErrorCode::kIo, path, std::strerror(errno), "a file that can be read");
  const auto memory = std::make_shared<ZeroedMemory>(size, true);
  std::atomic<bool> complete = true;
  parallel_for(static_cast<int64_t>(size), static_cast<int64_t>(kLarge), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const ssize_t n = ::pread(file, memory->data() + begin, static_cast<size_t>(end - begin), begin);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return void(complete = false);
      begin += n;
    }
  });
  ::close(file);
  if (!complete) fail(ErrorCode::kIo, path, "the file ends early or cannot be read", "a file that can be read to its end");
  return {memory, memory->data(), size};
}

Bytes map_file(const std::string& path, uint64_t limit_bytes) {
  const uint64_t size = checked_size(path, limit_bytes);
  if (size == 0) return {};
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(ErrorCode::kIo, path, std::strerror(errno), "a file that can be read");
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (at == MAP_FAILED) return read_file(path, limit_bytes);
  const auto* data = static_cast<const uint8_t*>(at);
  return {std::shared_ptr<const void>(at, [size](const void* p) { ::munmap(const_cast<void*>(p), size); }), data, size};
}

std::string file_identity(const std::string& path) {
  struct stat s{};
  if (::stat(path.c_str(), &s) != 0) return "";
  constexpr time_t kSettledSeconds = 2;
  if (std::max(s.st_mtim.tv_sec, s.st_ctim.tv_sec) + kSettledSeconds > ::time(nullptr)) return "";
  std::string id;
  for (int64_t v : {int64_t(s.st_dev), int64_t(s.st_ino), int64_t{s.st_size}, int64_t{s.st_mtim.tv_sec}, int64_t{s.st_mtim.tv_nsec}, int64_t{s.st_ctim.tv_sec}, int64_t{s.st_ctim.tv_nsec}}) id += std::to_string(v) + ",";
  return id;
}

void write_file(const std::string& path, std::string_view bytes) {
  write_pieces(path, {Bytes(nullptr, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size())});
}

void write_pieces(const std::string& path, const std::vector<Bytes>& pieces) {
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    for (const Bytes& b : pieces) out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
    if (!out || !out.flush()) {
      const std::string why = std::strerror(errno);
      std::remove(temporary.c_str());
      fail(ErrorCode::kIo, path, "cannot write: " + why, "a path in a folder that exists and can be written");
    }
  }
  std::error_code ec;
  fs::rename(temporary, path, ec);
  if (ec) {
    std::remove(temporary.c_str());
    fail(ErrorCode::kIo, path, "cannot replace the file: " + ec.message());
  }
}

bool file_exists(const std::string& path) {
  std::error_code ec;
  return fs::is_regular_file(path, ec);
}

uint64_t content_hash(std::string_view bytes) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (unsigned char c : bytes) h = (h ^ c) * 0x100000001b3ull;
  return h;
}

}  // namespace systole
