#include "runtime/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "runtime/inputs.h"
#include "runtime/npy.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

std::vector<uint8_t> read_maybe_gzip(const std::string& path) {
  const gzFile f = gzopen(path.c_str(), "rb");
  if (!f) fail(ErrorCode::kIo, path, "cannot read");
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> part(1 << 16);
  int n = 0;
  while ((n = gzread(f, part.data(), static_cast<unsigned>(part.size()))) > 0 && bytes.size() < (size_t{1} << 31)) bytes.insert(bytes.end(), part.begin(), part.begin() + n);
  gzclose(f);
  if (n < 0) fail(ErrorCode::kBadInput, path, "damaged gzip data");
  return bytes;
}

/// IDX (LeCun): two zero bytes, type 8 (uint8), rank, extents big-endian, data.
Tensor read_idx(const std::string& path) {
  const auto b = read_maybe_gzip(path);
  if (b.size() < 4 || b[0] || b[1] || b[2] != 8 || b[3] < 1 || b[3] > 4 || b.size() < 4 + 4u * b[3]) fail(ErrorCode::kBadInput, path, "no IDX file of bytes", "00 00 08 RANK, extents, data");
  Shape shape;
  for (size_t d = 0; d < b[3]; ++d) shape.push_back(int64_t{b[4 + 4 * d]} << 24 | b[5 + 4 * d] << 16 | b[6 + 4 * d] << 8 | b[7 + 4 * d]);
  const size_t header = 4 + 4u * b[3];
  if (static_cast<int64_t>(b.size() - header) != element_count(shape)) fail(ErrorCode::kBadInput, path, std::to_string(b.size() - header) + " bytes of data", std::to_string(element_count(shape)));
  Tensor t(DType::kU8, shape);
  std::copy(b.begin() + static_cast<long>(header), b.end(), t.bytes.begin());
  return t;
}

bool is_idx(const std::string& path) { return path.find("idx") != std::string::npos || path.ends_with(".gz"); }
bool is_picture(const fs::path& p) {
  std::string e = p.extension().string();
  std::transform(e.begin(), e.end(), e.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return e == ".png" || e == ".jpg" || e == ".jpeg" || e == ".bmp";
}

ImageOptions image_options(const DataOptions& o) {
  ImageOptions i;
  i.scale = o.image_scale;
  for (size_t c = 0; c < 3; ++c) {
    if (!o.image_mean.empty()) i.mean[c] = o.image_mean[std::min(c, o.image_mean.size() - 1)];
    if (!o.image_std.empty()) i.std[c] = o.image_std[std::min(c, o.image_std.size() - 1)];
  }
  return i;
}

/// Indices of at most `most` of n, spread evenly.
std::vector<size_t> spread(size_t n, int64_t most) {
  const size_t k = most > 0 ? std::min(n, static_cast<size_t>(most)) : n;
  std::vector<size_t> list;
  for (size_t i = 0; i < k; ++i) list.push_back(i * n / k);
  return list;
}

Dataset load_folder(const DataOptions& o, const TensorInfo& info) {
  std::vector<std::pair<std::string, int64_t>> files;
  std::vector<fs::path> folders;
  for (const auto& e : fs::directory_iterator(o.data)) {
    if (e.is_directory()) folders.push_back(e.path());
    else if (is_picture(e.path()) || e.path().extension() == ".npy") files.emplace_back(e.path().string(), -1);
  }
  std::sort(folders.begin(), folders.end());
  for (size_t c = 0; c < folders.size(); ++c) {
    for (const auto& e : fs::directory_iterator(folders[c])) {
      if (is_picture(e.path()) || e.path().extension() == ".npy") files.emplace_back(e.path().string(), static_cast<int64_t>(c));
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) fail(ErrorCode::kNotFound, o.data, "no pictures and no .npy files", "samples, or a folder of them per class");
  Dataset d;
  const bool labelled = files.front().second >= 0;
  ImageOptions image = image_options(o);
  image.stretch = true;
  for (size_t i : spread(files.size(), o.samples)) {
    d.inputs.push_back(read_input(files[i].first, info, image));
    if (labelled) d.labels.push_back(files[i].second);
  }
  return d;
}

/// Row i of a batch, scaled as pictures are when it holds bytes.
Tensor row_of(const Tensor& all, int64_t i, const TensorInfo& info, const ImageOptions& image, const std::string& path) {
  Tensor t(info.type, info.shape);
  const int64_t n = t.count();
  if (all.shape.empty() || all.shape[0] == 0 || all.count() / all.shape[0] != n) fail(ErrorCode::kMismatch, path, "samples of shape " + to_string(all.shape), "[N, ...] with " + std::to_string(n) + " elements each, for input " + to_string(info.shape));
  const int64_t channels = info.shape.size() > 1 ? info.shape[1] : 1, plane = std::max<int64_t>(1, n / std::max<int64_t>(1, channels));
  for (int64_t k = 0; k < n; ++k) {
    const double v = all.at(i * n + k);
    const size_t c = static_cast<size_t>(std::min<int64_t>(k / plane, 2));
    if (!is_float(t.type)) t.set_int(k, all.int_at(i * n + k));
    else t.set(k, all.type == DType::kU8 ? (v / static_cast<double>(image.scale) - static_cast<double>(image.mean[c])) / static_cast<double>(image.std[c]) : v);
  }
  return t;
}

}  // namespace

Dataset load_dataset(const DataOptions& o, const TensorInfo& info, bool label_rows) {
  if (!info.shape_known) fail(ErrorCode::kMismatch, "input '" + info.name + "'", "no fixed shape", "an input whose shape is known");
  std::error_code ec;
  if (fs::is_directory(o.data, ec)) return load_folder(o, info);
  if (!fs::exists(o.data, ec)) fail(ErrorCode::kIo, o.data, "no such file or folder");
  const Tensor all = is_idx(o.data) ? read_idx(o.data) : read_npy(o.data);
  Tensor labels;
  if (!o.labels.empty()) labels = is_idx(o.labels) ? read_idx(o.labels) : read_npy(o.labels);
  if (all.shape.empty()) fail(ErrorCode::kMismatch, o.data, "a scalar", "samples [N, ...]");
  Dataset d;
  if (!o.labels.empty() && label_rows && all.shape[0] > 0 && !labels.shape.empty() && labels.shape[0] == all.shape[0]) d.labels_each = labels.count() / all.shape[0];
  if (!o.labels.empty() && labels.count() != all.shape[0] * d.labels_each) fail(ErrorCode::kMismatch, o.labels, std::to_string(labels.count()) + " labels", std::to_string(all.shape[0]));
  for (size_t i : spread(static_cast<size_t>(all.shape[0]), o.samples)) {
    d.inputs.push_back(row_of(all, static_cast<int64_t>(i), info, image_options(o), o.data));
    for (int64_t k = 0; k < d.labels_each && !o.labels.empty(); ++k) d.labels.push_back(labels.int_at(static_cast<int64_t>(i) * d.labels_each + k));
  }
  return d;
}

int64_t top_one(const Tensor& scores) {
  int64_t best = 0;
  for (int64_t i = 1, n = scores.count(); i < n; ++i) best = scores.at(i) > scores.at(best) ? i : best;
  return best;
}

}  // namespace systole
