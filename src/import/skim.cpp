#include "import/skim.h"

namespace systole {
namespace {

constexpr uint64_t kGraph = 7, kInitializer = 5, kRawData = 9;
constexpr size_t kLarge = 4096;
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

/// One field of a message: `all` from its tag on, `payload` without tag and length.
struct Field {
  uint64_t number = 0;
  int wire = 0;
  std::string_view all, payload;
};

std::optional<uint64_t> take_varint(std::string_view& rest) {
  uint64_t v = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest.front());
    rest.remove_prefix(1);
    v |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return v;
  }
  return std::nullopt;
}

std::optional<Field> take_field(std::string_view& rest) {
  const std::string_view begin = rest;
  const auto tag = take_varint(rest);
  if (!tag) return std::nullopt;
  Field f{*tag >> 3, static_cast<int>(*tag & 7), {}, {}};
  uint64_t size = f.wire == kFixed64 ? 8 : 4;
  if (f.wire == kVarint) {
    if (!take_varint(rest)) return std::nullopt;
    size = 0;
  } else if (f.wire == kBytes) {
    const auto length = take_varint(rest);
    if (!length) return std::nullopt;
    size = *length;
  } else if (f.wire != kFixed64 && f.wire != kFixed32) {
    return std::nullopt;
  }
  if (size > rest.size()) return std::nullopt;
  f.payload = rest.substr(0, size);
  rest.remove_prefix(size);
  f.all = begin.substr(0, begin.size() - rest.size());
  return f;
}

void put_varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out.push_back(static_cast<char>(v | 0x80));
  out.push_back(static_cast<char>(v));
}

void put_message(std::string& out, uint64_t number, const std::string& message) {
  put_varint(out, number << 3 | kBytes);
  put_varint(out, message.size());
  out += message;
}

/// Calls each(field); false where the message is damaged or each() says so.
template <class F>
bool for_each_field(std::string_view message, F&& each) {
  while (!message.empty()) {
    const auto field = take_field(message);
    if (!field || !each(*field)) return false;
  }
  return true;
}

bool skim_tensor(std::string_view tensor, std::string& skeleton, std::string_view& raw) {
  int times = 0;
  return for_each_field(tensor, [&](const Field& f) {
    const bool is_raw = f.number == kRawData && f.wire == kBytes;
    if (is_raw && f.payload.size() >= kLarge) raw = f.payload;
    else skeleton += f.all;
    return !is_raw || ++times == 1;
  });
}

bool skim_graph(std::string_view graph, std::string& skeleton, std::vector<std::string_view>& raw) {
  return for_each_field(graph, [&](const Field& f) {
    if (f.number != kInitializer || f.wire != kBytes) {
      skeleton += f.all;
      return true;
    }
    std::string tensor;
    const bool good = skim_tensor(f.payload, tensor, raw.emplace_back());
    put_message(skeleton, kInitializer, tensor);
    return good;
  });
}

}  // namespace

std::optional<SkimmedModel> skim(std::string_view file) {
  SkimmedModel m;
  int graphs = 0;
  const bool good = for_each_field(file, [&](const Field& f) {
    if (f.number != kGraph || f.wire != kBytes) {
      m.skeleton += f.all;
      return true;
    }
    std::string graph;
    const bool read = skim_graph(f.payload, graph, m.raw);
    put_message(m.skeleton, kGraph, graph);
    return read && ++graphs == 1;
  });
  if (!good || graphs != 1) return std::nullopt;
  return m;
}

}  // namespace systole
