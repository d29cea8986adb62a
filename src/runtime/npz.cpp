#include "runtime/npz.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "runtime/npy.h"

namespace systole {
namespace {

constexpr const char kSuffix[] = ".npz";
constexpr size_t kSuffixLength = sizeof kSuffix - 1, kPart = size_t{1} << 20;

/// Behind ".npz", where the path has it at its end or before a colon; npos where it does not.
size_t end_of_file(const std::string& path) {
  if (path.ends_with(kSuffix)) return path.size();
  const size_t colon = path.rfind(std::string(kSuffix) + ":");
  return colon == std::string::npos ? colon : colon + kSuffixLength;
}

class Archive {
 public:
  explicit Archive(const std::string& file) : file_(file) {
    int code = 0;
    zip_.reset(zip_open(file.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
    if (zip_) return;
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string why = zip_error_strerror(&error);
    zip_error_fini(&error);
    fail(code == ZIP_ER_NOENT || code == ZIP_ER_OPEN || code == ZIP_ER_READ ? ErrorCode::kIo : ErrorCode::kBadInput, file, why, "an archive of arrays, as numpy.savez writes it");
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (zip_int64_t i = 0, n = zip_get_num_entries(zip_.get(), 0); i < n; ++i) {
      const char* name = zip_get_name(zip_.get(), static_cast<zip_uint64_t>(i), 0);
      if (name && std::string(name).ends_with(".npy")) list.push_back(std::string(name).substr(0, std::strlen(name) - 4));
    }
    return list;
  }
  /// Memory grows with what the archive really holds, whatever size it claims.
  Tensor read(const std::string& name) const {
    const std::string where = file_ + ":" + name;
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> entry(zip_fopen(zip_.get(), (name + ".npy").c_str(), 0), zip_fclose);
    if (!entry) fail(ErrorCode::kBadInput, where, zip_strerror(zip_.get()), "an array of the archive");
    std::vector<uint8_t> bytes;
    for (;;) {
      const size_t at = bytes.size();
      bytes.resize(at + std::max(kPart, at / 2));
      const zip_int64_t n = zip_fread(entry.get(), bytes.data() + at, bytes.size() - at);
      if (n < 0) fail(ErrorCode::kBadInput, where, zip_file_strerror(entry.get()), "an undamaged archive");
      bytes.resize(at + static_cast<size_t>(n));
      if (n == 0) break;
    }
    return parse_npy(bytes, where);
  }

 private:
  std::string file_;
  std::unique_ptr<zip_t, void (*)(zip_t*)> zip_{nullptr, zip_discard};
};

}  // namespace

bool is_npz(const std::string& path) { return end_of_file(path) != std::string::npos; }
std::string npz_file(const std::string& path) { return path.substr(0, end_of_file(path)); }
std::vector<std::string> npz_names(const std::string& path) { return Archive(npz_file(path)).names(); }

Tensor read_npz(const std::string& path, const std::vector<std::string>& usual) {
  const std::string file = npz_file(path);
  const Archive archive(file);
  const auto names = archive.names();
  const auto there = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  std::string list;
  for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
  if (file.size() < path.size()) {
    const std::string name = path.substr(file.size() + 1);
    if (!there(name)) fail(ErrorCode::kNotFound, path, "no such array", names.empty() ? "an archive with arrays" : "one of " + list);
    return archive.read(name);
  }
  for (const std::string& name : usual) {
    if (there(name)) return archive.read(name);
  }
  if (names.size() != 1) fail(ErrorCode::kNotFound, path, names.empty() ? "no arrays" : "arrays " + list, "one that is called " + (usual.empty() ? std::string("by name") : usual[0]), "name it: " + file + ":NAME");
  return archive.read(names[0]);
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays, bool deflated) {
  std::vector<std::vector<uint8_t>> kept;  // read when the archive is closed
  int code = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (!zip) fail(ErrorCode::kIo, path, "cannot write");
  bool all = true;
  for (const auto& [name, t] : arrays) {
    kept.push_back(format_npy(t));
    const zip_int64_t at = zip_file_add(zip, (name + ".npy").c_str(), zip_source_buffer(zip, kept.back().data(), kept.back().size(), 0), 0);
    all = all && at >= 0 && zip_set_file_compression(zip, static_cast<zip_uint64_t>(at), deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) == 0;
  }
  if (all && zip_close(zip) == 0) return;
  zip_discard(zip);
  fail(ErrorCode::kIo, path, "cannot write the arrays");
}

Tensor read_array(const std::string& path, const std::vector<std::string>& usual) { return is_npz(path) ? read_npz(path, usual) : read_npy(path); }

}  // namespace systole
