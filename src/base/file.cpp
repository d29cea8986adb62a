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
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"

namespace systole {
namespace fs = std::filesystem;

namespace {

/// Size of a regular file within the limit.
uint64_t checked_size(const std::string& path, uint64_t limit_bytes) {
  std::error_code ec;
  if (!fs::is_regular_file(path, ec)) fail(ErrorCode::kIo, path, fs::exists(path, ec) ? fs::is_directory(path, ec) ? "a folder" : "no regular file" : "no such file", "a regular file that can be read");
  const uint64_t size = fs::file_size(path, ec);
  if (ec) fail(ErrorCode::kIo, path, ec.message(), "a file whose size can be read");
  if (size > limit_bytes) {
    fail(ErrorCode::kResource, path, "the file has " + std::to_string(size) + " bytes", "at most " + std::to_string(limit_bytes));
  }
  return size;
}

/// Files that are mapped, by their first byte in memory; large ones stay open for as long as they are mapped.
class MappedFiles {
 public:
  static MappedFiles& all() {
    static auto* files = new MappedFiles;  // bytes may be released behind the last static object
    return *files;
  }
  void add(const uint8_t* at, size_t size, int file) {
    constexpr size_t kWorthADescriptor = size_t{1} << 20;
    if (size < kWorthADescriptor) ::close(std::exchange(file, -1));
    const std::unique_lock lock(mutex_);
    files_[at] = {size, file};
  }
  void remove(const uint8_t* at) {
    const std::unique_lock lock(mutex_);
    const auto found = files_.find(at);
    ::munmap(const_cast<uint8_t*>(at), found->second.size);
    if (found->second.file >= 0) ::close(found->second.file);
    files_.erase(found);
  }
  /// Reads through the system; false where it cannot, or where the bytes are of no mapped file.
  bool read(const uint8_t* from, size_t size, uint8_t* to) {
    const std::shared_lock lock(mutex_);
    auto found = files_.upper_bound(from);
    if (found == files_.begin()) return false;
    --found;
    const auto offset = static_cast<size_t>(from - found->first);
    if (found->second.file < 0 || offset > found->second.size || size > found->second.size - offset) return false;
    return read_part(found->second.file, to, size, offset);
  }

  /// False where the file ends before or cannot be read.
  static bool read_part(int file, uint8_t* to, size_t size, size_t offset) {
    while (size > 0) {
      const ssize_t n = ::pread(file, to, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      to += n, offset += static_cast<size_t>(n), size -= static_cast<size_t>(n);
    }
    return true;
  }

 private:
  struct File {
    size_t size;
    int file;
  };
  std::shared_mutex mutex_;
  std::map<const uint8_t*, File> files_;
};

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
    if (!MappedFiles::read_part(file, memory->data() + begin, static_cast<size_t>(end - begin), static_cast<size_t>(begin))) complete = false;
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
  if (at == MAP_FAILED) {
    ::close(file);
    return read_file(path, limit_bytes);
  }
  const auto* data = static_cast<const uint8_t*>(at);
  MappedFiles::all().add(data, size, file);
  return {std::shared_ptr<const void>(data, [](const void* p) { MappedFiles::all().remove(static_cast<const uint8_t*>(p)); }), data, size};
}

const uint8_t* read_once(const uint8_t* from, size_t size) {
  constexpr size_t kFewBytes = size_t{1} << 14;
  thread_local std::vector<uint8_t> buffer;
  if (size < kFewBytes) return from;
  if (buffer.size() < size) buffer.resize(size);
  return MappedFiles::all().read(from, size, buffer.data()) ? buffer.data() : from;
}

void copy_once(const uint8_t* from, size_t size, uint8_t* to) {
  if (size > 0 && !MappedFiles::all().read(from, size, to)) std::memcpy(to, from, size);
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
