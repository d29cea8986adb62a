#include "runtime/program_cache.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/content_key.h"
#include "base/error.h"
#include "base/file.h"
#include "graph/text.h"
#include "import/onnx.h"
#include "isa/codec.h"

namespace systole {
namespace fs = std::filesystem;

const std::string& compiler_identity() {
  static const std::string key = [] {
    try {
      const auto bytes = map_file("/proc/self/exe", 1 << 30);
      return content_key({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    } catch (const Failure&) {
      return std::string();
    }
  }();
  return key;
}

std::string ProgramCache::default_folder() {
  if (compiler_identity().empty()) return "";
  if (const char* own = std::getenv("SYSTOLE_CACHE")) return own;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return std::string(cache) + "/systole";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache/systole" : "";
}

std::string ProgramCache::key_of(const Graph& primitives, const Machine& machine, const std::string& precision) const {
  return content_key(print_graph(primitives, false) + precision + std::to_string(machine.hash) + machine.name + compiler_identity());
}

std::optional<isa::Program> ProgramCache::find(const std::string& key, const Machine& machine) const {
  const auto bytes = find_bytes(key);
  if (!bytes) return std::nullopt;
  try {
    isa::Program p = isa::deserialise(*bytes, path_of(key));
    if (p.machine_hash == machine.hash) return p;
  } catch (const Failure&) {
  }
  return std::nullopt;
}

std::string ProgramCache::content_of(const std::string& path, const Bytes& bytes) const {
  const std::string identity = file_identity(path), note = folder_ + "/" + content_key(identity) + ".id";
  if (!identity.empty() && file_exists(note)) {
    try {
      const auto kept = read_file(note, 64);
      return {kept.begin(), kept.end()};
    } catch (const Failure&) {
      // gone meanwhile
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string content = may_name_files(bytes) ? "" : content_key(text);
  try {
    std::error_code ec;
    fs::create_directories(folder_, ec);
    if (!identity.empty()) write_file(note, content);
  } catch (const Failure&) {
    // read again next time
  }
  return content;
}

std::string ProgramCache::key_of_file(const std::string& content, const std::string& options, const Machine& machine) {
  return content_key(content + options + std::to_string(machine.hash) + machine.name + compiler_identity());
}

std::optional<Bytes> ProgramCache::find_bytes(const std::string& key) const {
  if (!enabled() || !file_exists(path_of(key))) return std::nullopt;
  try {
    auto bytes = map_file(path_of(key));  // entries are only ever renamed over or removed
    std::error_code ec;
    fs::last_write_time(path_of(key), fs::file_time_type::clock::now(), ec);  // the oldest use goes first
    return bytes;
  } catch (const Failure&) {
    return std::nullopt;
  }
}

void ProgramCache::store(const std::string& key, const isa::Program& program) const {
  if (enabled()) store_pieces(key, {isa::serialise_before_constants(program), program.constants});
}

void ProgramCache::store_pieces(const std::string& key, const std::vector<Bytes>& pieces) const {
  if (!enabled()) return;
  try {
    std::error_code ec;
    fs::create_directories(folder_, ec);
    const std::string temporary = path_of(key) + "." + std::to_string(getpid());
    write_pieces(temporary, pieces);
    fs::rename(temporary, path_of(key), ec);
    trim();
  } catch (const Failure&) {
    // a full or read-only disk only costs the next compile
  }
}

void ProgramCache::trim() const {
  struct Entry {
    fs::file_time_type used;
    int64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  int64_t total = 0;
  std::error_code ec;
  for (const auto& e : fs::directory_iterator(folder_, ec)) {
    if (!e.is_regular_file(ec)) continue;
    entries.push_back({e.last_write_time(ec), static_cast<int64_t>(e.file_size(ec)), e.path()});
    total += entries.back().bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (size_t i = 0; i < entries.size() && total > kMostBytes; ++i) {
    fs::remove(entries[i].path, ec);
    total -= entries[i].bytes;
  }
}

}  // namespace systole
