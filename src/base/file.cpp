#include "base/file.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace systole {
namespace fs = std::filesystem;

std::vector<uint8_t> read_file(const std::string& path, uint64_t limit_bytes) {
  std::error_code ec;
  if (!fs::is_regular_file(path, ec)) fail(ErrorCode::kIo, path, "no such file", "a regular file that can be read");
  const uint64_t size = fs::file_size(path, ec);
  if (ec) fail(ErrorCode::kIo, path, ec.message(), "a file whose size can be read");
  if (size > limit_bytes) {
    fail(ErrorCode::kResource, path, "the file has " + std::to_string(size) + " bytes", "at most " + std::to_string(limit_bytes));
  }
  std::vector<uint8_t> bytes(size);
  std::ifstream in(path, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)) && size > 0) {
    fail(ErrorCode::kIo, path, std::strerror(errno), "a file that can be read to its end");
  }
  return bytes;
}

void write_file(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    if (!out.write(bytes.data(), static_cast<std::streamsize>(bytes.size())) || !out.flush()) {
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
