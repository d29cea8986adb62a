// Compiled programs on disk, by the content of what they were compiled from: primitives with their constants, machine,
// precision, and the compiler itself. Any number of processes may use one folder.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "isa/program.h"
#include "machine/machine.h"

namespace systole {

/// Of this program's own file: another build may compile differently. Empty where it cannot be read.
const std::string& compiler_identity();

class ProgramCache {
 public:
  static constexpr int64_t kMostBytes = int64_t{4} << 30;  ///< the oldest programs go beyond this

  /// An empty folder means no cache. See default_folder.
  explicit ProgramCache(std::string folder) : folder_(std::move(folder)) {}
  /// SYSTOLE_CACHE, or systole in XDG_CACHE_HOME or ~/.cache; empty when SYSTOLE_CACHE is empty, there is no home, or
  /// this program cannot read its own file.
  static std::string default_folder();

  std::string key_of(const Graph& primitives, const Machine& machine, const std::string& precision) const;
  /// A damaged or foreign file counts as absent.
  std::optional<isa::Program> find(const std::string& key, const Machine& machine) const;
  /// Written under another name first, then renamed; failures to write are ignored.
  void store(const std::string& key, const isa::Program& program) const;

  /// Whole models, by the bytes of their file and everything that decides how they compile (`options`).
  static std::string key_of_file(const std::string& content, const std::string& options, const Machine& machine);
  /// Content of a model file: its key, or empty where the file may name others (external data). A file's content is read
  /// once as long as its identity (base/file.h) stays.
  std::string content_of(const std::string& path, const Bytes& bytes) const;
  /// The kept file, mapped.
  std::optional<Bytes> find_bytes(const std::string& key) const;
  void store_pieces(const std::string& key, const std::vector<Bytes>& pieces) const;
  bool enabled() const { return !folder_.empty(); }

 private:
  std::string path_of(const std::string& key) const { return folder_ + "/" + key + ".npu"; }
  void trim() const;
  const std::string folder_;
};

}  // namespace systole
