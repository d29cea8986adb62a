#include "runtime/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "runtime/inputs.h"
#include "runtime/npz.h"

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
    d.samples.push_back({read_input(files[i].first, info, image)});
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

namespace {

Tensor read_samples(const std::string& path) {
  static const std::vector<std::string> kUsual = {"x", "X", "data", "images", "inputs", "samples", "x_train", "arr_0"};
  return is_idx(path) ? read_idx(path) : read_array(path, kUsual);
}
const std::vector<std::string> kUsualLabels = {"y", "Y", "labels", "targets", "label", "target", "y_train", "arr_1"};
Tensor read_labels(const std::string& path) { return is_idx(path) ? read_idx(path) : read_array(path, kUsualLabels); }

/// Labels that lie beside the samples in one archive: y... of x..., or one of the usual names that is no input's.
std::string labels_beside(const std::string& data, const std::vector<TensorInfo>& inputs) {
  if (!is_npz(data)) return "";
  const std::string file = npz_file(data);
  auto usual = kUsualLabels;
  if (file.size() < data.size()) {
    std::string name = data.substr(file.size() + 1);
    if (name[0] != 'x' && name[0] != 'X') return "";
    ++name[0];
    usual = {name};
  }
  const auto names = npz_names(file);
  for (const std::string& name : usual) {
    const bool is_input = inputs.size() > 1 && std::any_of(inputs.begin(), inputs.end(), [&](const TensorInfo& i) { return i.name == name; });
    if (!is_input && std::find(names.begin(), names.end(), name) != names.end()) return file + ":" + name;
  }
  return "";
}

/// All samples of each input, as many of each.
std::vector<Tensor> read_all(const std::string& data, const std::vector<TensorInfo>& inputs) {
  std::vector<Tensor> all;
  if (inputs.size() == 1) {
    all.push_back(read_samples(data));
  } else {
    std::string names;
    for (const TensorInfo& i : inputs) names += (names.empty() ? "" : ", ") + i.name;
    if (!is_npz(data) || npz_file(data) != data) fail(ErrorCode::kBadInput, data, "data for a model of " + std::to_string(inputs.size()) + " inputs", "an .npz with an array [N, ...] for each of them: " + names, "an input that never changes can be given with --constant NAME=VALUE");
    for (const TensorInfo& i : inputs) all.push_back(read_npz(data + ":" + i.name));
  }
  for (size_t k = 0; k < all.size(); ++k) {
    if (all[k].shape.empty()) fail(ErrorCode::kMismatch, data, "a scalar", "samples [N, ...]");
    if (all[k].shape[0] != all[0].shape[0]) fail(ErrorCode::kMismatch, data, std::to_string(all[k].shape[0]) + " samples for input '" + inputs[k].name + "'", std::to_string(all[0].shape[0]) + ", as for '" + inputs[0].name + "'");
  }
  return all;
}

/// Labels [first, first + count) of the file's, as numbers and, where all of those are whole, as classes.
void add_labels(const Tensor& labels, int64_t first, int64_t count, bool whole, Dataset& d) {
  for (int64_t k = first; k < first + count; ++k) {
    if (is_float(labels.type)) d.numbers.push_back(static_cast<float>(labels.at(k)));
    if (whole) d.labels.push_back(is_float(labels.type) ? static_cast<int64_t>(labels.at(k)) : labels.int_at(k));
  }
}

/// Whether all labels can be classes. Fails on floats that are no numbers.
bool all_whole(const Tensor& labels, const std::string& path) {
  bool whole = true;
  for (int64_t k = 0; is_float(labels.type) && k < labels.count(); ++k) {
    const double v = labels.at(k);
    if (!std::isfinite(v)) fail(ErrorCode::kBadInput, path, "label " + std::to_string(k) + ": " + std::to_string(v), "finite numbers");
    whole = whole && v == std::floor(v) && std::abs(v) < 0x1p53;
  }
  return whole;
}

}  // namespace

Dataset load_dataset(const DataOptions& o, const std::vector<TensorInfo>& inputs, bool any_labels) {
  for (const TensorInfo& i : inputs) {
    if (!i.shape_known) fail(ErrorCode::kMismatch, "input '" + i.name + "'", "no fixed shape", "an input whose shape is known");
  }
  std::error_code ec;
  if (inputs.size() == 1 && fs::is_directory(o.data, ec)) return load_folder(o, inputs[0]);
  if (!fs::exists(is_npz(o.data) ? npz_file(o.data) : o.data, ec)) fail(ErrorCode::kIo, o.data, "no such file or folder");
  const std::vector<Tensor> all = read_all(o.data, inputs);
  const int64_t count = all[0].shape[0];
  const std::string path = o.labels.empty() ? labels_beside(o.data, inputs) : o.labels;
  Dataset d;
  Tensor labels;
  bool whole = true;
  if (!path.empty()) {
    labels = read_labels(path), whole = all_whole(labels, path);
    if (any_labels && count > 0 && !labels.shape.empty() && labels.shape[0] == count) d.labels_each = labels.count() / count;
    if (labels.count() != count * d.labels_each) fail(ErrorCode::kMismatch, path, std::to_string(labels.count()) + " labels", std::to_string(count));
    if (!whole && !any_labels) fail(ErrorCode::kBadInput, path, "labels that are not whole numbers", "the number of a class for each sample");
  }
  for (size_t i : spread(static_cast<size_t>(count), o.samples)) {
    std::vector<Tensor>& sample = d.samples.emplace_back();
    for (size_t k = 0; k < inputs.size(); ++k) sample.push_back(row_of(all[k], static_cast<int64_t>(i), inputs[k], image_options(o), o.data));
    if (!path.empty()) add_labels(labels, static_cast<int64_t>(i) * d.labels_each, d.labels_each, whole, d);
  }
  return d;
}

std::vector<std::vector<Tensor>> random_samples(const std::vector<TensorInfo>& inputs, int64_t count, uint64_t seed) {
  std::vector<std::vector<Tensor>> samples(static_cast<size_t>(std::max<int64_t>(0, count)));
  for (size_t i = 0; i < samples.size(); ++i) {
    for (size_t k = 0; k < inputs.size(); ++k) samples[i].push_back(random_input(inputs[k], seed + i + (k << 32)));
  }
  return samples;
}

int64_t top_one(const Tensor& scores) {
  int64_t best = 0;
  for (int64_t i = 1, n = scores.count(); i < n; ++i) best = scores.at(i) > scores.at(best) ? i : best;
  return best;
}

}  // namespace systole
