#include "runtime/inputs.h"

#include <stb/stb_image.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "base/file.h"
#include "runtime/npz.h"

namespace systole {
namespace {

bool ends_with(std::string s, const char* suffix) {
  std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return s.ends_with(suffix);
}

/// Channels and extents of the image axes of an input.
struct Geometry {
  int64_t channels, height, width;
  bool channels_last;
};

Geometry geometry_of(const TensorInfo& info, const std::string& layout, const std::string& path) {
  const Shape& s = info.shape;
  const std::string expected = "an input of shape [1,C,H,W] or [1,H,W,C] with C = 1 or 3, not " + to_string(s);
  if (s.size() != 4 || s[0] != 1) fail(ErrorCode::kMismatch, path, "a picture for input '" + info.name + "'", expected);
  auto is_colour = [](int64_t c) { return c == 1 || c == 3; };
  const bool last = layout == "nhwc" || (layout == "auto" && !is_colour(s[1]) && is_colour(s[3]));
  if (layout != "auto" && layout != "nchw" && layout != "nhwc") fail(ErrorCode::kBadInput, "--image-layout", "'" + layout + "'", "auto, nchw or nhwc");
  if (!is_colour(last ? s[3] : s[1])) fail(ErrorCode::kMismatch, path, "a picture for input '" + info.name + "'", expected);
  return last ? Geometry{s[3], s[1], s[2], true} : Geometry{s[1], s[2], s[3], false};
}

/// Weights of one output sample: a triangle as wide as the scale, so that shrinking averages (libstb's own resampler stops
/// the program on some ratios).
struct Taps {
  int first = 0;
  std::vector<double> weights;
};

std::vector<Taps> taps_of(int from, int to) {
  std::vector<Taps> list(static_cast<size_t>(to));
  const double scale = static_cast<double>(from) / to, support = std::max(1.0, scale);
  for (int o = 0; o < to; ++o) {
    const double centre = (o + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(std::floor(centre - support))), last = std::min(from, static_cast<int>(std::ceil(centre + support)));
    Taps& t = list[static_cast<size_t>(o)];
    t.first = first;
    double sum = 0;
    for (int i = first; i < last; ++i) t.weights.push_back(std::max(0.0, 1 - std::fabs(i + 0.5 - centre) / support)), sum += t.weights.back();
    for (double& weight : t.weights) weight /= sum;
  }
  return list;
}

/// Columns, then rows; [h][w][channels].
std::vector<float> resize_image(const uint8_t* pixels, int width, int height, int channels, int w, int h) {
  const auto columns = taps_of(width, w), rows = taps_of(height, h);
  const size_t pitch = static_cast<size_t>(w) * static_cast<size_t>(channels);
  std::vector<double> wide(static_cast<size_t>(height) * pitch);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < w; ++x) {
      const Taps& t = columns[static_cast<size_t>(x)];
      for (int c = 0; c < channels; ++c) {
        double sum = 0;
        for (size_t k = 0; k < t.weights.size(); ++k) sum += t.weights[k] * pixels[(static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(t.first) + k) * static_cast<size_t>(channels) + static_cast<size_t>(c)];
        wide[static_cast<size_t>(y) * pitch + static_cast<size_t>(x * channels + c)] = sum;
      }
    }
  }
  std::vector<float> out(static_cast<size_t>(h) * pitch);
  for (int y = 0; y < h; ++y) {
    const Taps& t = rows[static_cast<size_t>(y)];
    for (size_t i = 0; i < pitch; ++i) {
      double sum = 0;
      for (size_t k = 0; k < t.weights.size(); ++k) sum += t.weights[k] * wide[(static_cast<size_t>(t.first) + k) * pitch + i];
      out[static_cast<size_t>(y) * pitch + i] = static_cast<float>(sum);
    }
  }
  return out;
}

Tensor read_image(const std::string& path, const TensorInfo& info, const ImageOptions& o) {
  const Geometry g = geometry_of(info, o.layout, path);
  const auto bytes = read_file(path, 256 << 20);
  int width = 0, height = 0, found = 0;
  if (!stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &found) || int64_t{width} * height > (int64_t{1} << 26)) {
    fail(ErrorCode::kBadInput, path, width ? "a picture of more than 2^26 pixels" : stbi_failure_reason(), "a PNG, JPEG or BMP picture");
  }
  const int channels = static_cast<int>(g.channels);
  std::unique_ptr<uint8_t, void (*)(void*)> pixels(stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &found, channels), stbi_image_free);
  if (!pixels) fail(ErrorCode::kBadInput, path, stbi_failure_reason(), "a PNG, JPEG or BMP picture");
  int w = static_cast<int>(g.width), h = static_cast<int>(g.height), x0 = 0, y0 = 0;
  if (!o.stretch) {
    const double target = o.resize_shorter > 0 ? o.resize_shorter : std::round(static_cast<double>(std::min(g.height, g.width)) * 256 / 224);
    const double ratio = std::max({target / std::min(width, height), static_cast<double>(g.width) / width, static_cast<double>(g.height) / height});
    w = std::max<int>(static_cast<int>(g.width), static_cast<int>(std::lround(width * ratio))), h = std::max<int>(static_cast<int>(g.height), static_cast<int>(std::lround(height * ratio)));
    x0 = (w - static_cast<int>(g.width)) / 2, y0 = (h - static_cast<int>(g.height)) / 2;
  }
  const std::vector<float> resized = resize_image(pixels.get(), width, height, channels, w, h);
  Tensor t(info.type, info.shape);
  for (int64_t y = 0; y < g.height; ++y) {
    for (int64_t x = 0; x < g.width; ++x) {
      for (int64_t c = 0; c < g.channels; ++c) {
        const int64_t from = o.bgr ? g.channels - 1 - c : c;
        const float pixel = resized[static_cast<size_t>(((y + y0) * w + x + x0) * channels + from)];
        const int64_t to = g.channels_last ? (y * g.width + x) * g.channels + c : (c * g.height + y) * g.width + x;
        const size_t k = static_cast<size_t>(c);
        t.set(to, info.type == DType::kU8 ? pixel : (pixel / o.scale - o.mean[k]) / o.std[k]);
      }
    }
  }
  return t;
}

}  // namespace

Tensor read_input(const std::string& path, const TensorInfo& info, const ImageOptions& image) {
  if (ends_with(path, ".png") || ends_with(path, ".jpg") || ends_with(path, ".jpeg") || ends_with(path, ".bmp")) return read_image(path, info, image);
  Tensor t;
  if (ends_with(path, ".npy") || is_npz(path)) {
    t = read_array(path, {info.name});
  } else if (ends_with(path, ".bin")) {
    t = Tensor(info.type, info.shape);
    const auto bytes = read_file(path);
    if (bytes.size() != t.bytes.size()) fail(ErrorCode::kMismatch, path, std::to_string(bytes.size()) + " bytes", std::to_string(t.bytes.size()) + " bytes for " + to_string(info.type) + to_string(info.shape));
    t.bytes = bytes;
  } else {
    fail(ErrorCode::kUnsupported, path, "an unknown kind of file", ".npy, .npz, .bin, .png, .jpg, .jpeg or .bmp");
  }
  if (t.type != info.type || t.shape != info.shape) {
    fail(ErrorCode::kMismatch, path, std::string(to_string(t.type)) + to_string(t.shape), std::string(to_string(info.type)) + to_string(info.shape) + " for input '" + info.name + "'");
  }
  return t;
}

Tensor random_input(const TensorInfo& info, uint64_t seed) {
  Tensor t(info.type, info.shape);
  std::mt19937_64 rng(seed);
  for (int64_t i = 0; i < t.count(); ++i) {
    if (is_float(info.type)) {
      // Sum of twelve uniforms: close to normal, and the same bits everywhere (std::normal_distribution is not).
      double sum = -6;
      for (int k = 0; k < 12; ++k) sum += static_cast<double>(rng() >> 11) * 0x1p-53;
      t.set(i, sum);
    } else {
      t.set_int(i, info.type == DType::kBool || info.type == DType::kI64 ? static_cast<int64_t>(rng() & 1) : static_cast<int64_t>(rng() & 255) - (info.type == DType::kI8 ? 128 : 0));
    }
  }
  return t;
}

std::string file_name_of(const std::string& value_name) {
  std::string s = value_name.empty() ? "output" : value_name;
  for (char& c : s) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-' && c != '_') c = '_';
  }
  if (s == "." || s == "..") s = "_";
  return s;
}

}  // namespace systole
