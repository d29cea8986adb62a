// A line of JSON (run, step, shapes, hash), then the tensors' bytes.
#include "train/checkpoint.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace systole {

using nlohmann::json;

void write_checkpoint(const Checkpoint& c, const std::string& path) {
  std::string data;
  json shapes = json::array();
  for (const Tensor& t : c.tensors) {
    shapes.push_back(t.shape);
    data.append(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
  }
  const json head = {{"systole", "checkpoint"}, {"run", c.run}, {"step", c.step}, {"shapes", shapes}, {"hash", content_hash(data)}};
  write_file(path, head.dump() + "\n" + data);
}

std::optional<Checkpoint> read_checkpoint(const std::string& path, const std::string& run) {
  if (!file_exists(path)) return std::nullopt;
  const auto bytes = read_file(path);
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t end = all.find('\n');
  Checkpoint c;
  try {
    const json head = json::parse(all.substr(0, end == std::string_view::npos ? 0 : end));
    std::string_view data = all.substr(end + 1);
    if (head.at("systole") != "checkpoint" || head.at("hash").get<uint64_t>() != content_hash(data)) fail(ErrorCode::kBadInput, path, "damaged data", "a checkpoint", "delete it to start anew");
    c.run = head.at("run").get<std::string>(), c.step = head.at("step").get<int64_t>();
    for (const auto& s : head.at("shapes")) {
      const Shape shape = s.get<Shape>();
      int64_t n = 1;
      for (int64_t d : shape) {
        if (d < 0 || __builtin_mul_overflow(n, d, &n) || n > (int64_t{1} << 40)) fail(ErrorCode::kBadInput, path, "an impossible shape", "a checkpoint");
      }
      if (static_cast<size_t>(n) > data.size() / 4) fail(ErrorCode::kBadInput, path, "the file ends early", "a whole checkpoint");
      Tensor t(DType::kF32, shape);
      std::memcpy(t.bytes.data(), data.data(), static_cast<size_t>(n) * 4);
      data.remove_prefix(static_cast<size_t>(n) * 4);
      c.tensors.push_back(std::move(t));
    }
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadInput, path, e.what(), "a checkpoint of systole train", "delete it to start anew");
  }
  if (c.run != run) fail(ErrorCode::kMismatch, path, "the checkpoint of another run", "one with this model, data and options", "delete it, or name another with --checkpoint");
  return c;
}

}  // namespace systole
