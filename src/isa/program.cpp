#include "isa/program.h"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "isa/codec.h"

namespace systole::isa {
namespace {

using nlohmann::json;
constexpr char kMagic[8] = {'S', 'Y', 'S', 'T', 'N', 'P', 'U', '1'};
constexpr uint64_t kMaxDram = uint64_t{1} << 40;

struct Head {
  char magic[8];
  uint64_t json_bytes, code_bytes, constant_bytes;
};

json to_json(const std::vector<BoundaryTensor>& tensors) {
  json list = json::array();
  for (const auto& t : tensors) list.push_back({{"name", t.name}, {"type", to_string(t.type)}, {"shape", t.shape}, {"address", t.address}});
  return list;
}

std::vector<BoundaryTensor> boundary_from(const json& list, const Program& p, const std::string& where) {
  std::vector<BoundaryTensor> out;
  for (const auto& j : list) {
    BoundaryTensor t;
    t.name = j.at("name").get<std::string>();
    const auto type = parse_dtype(j.at("type").get<std::string>());
    if (!type || bytes_of(*type) == 0) fail(ErrorCode::kBadInput, where, "tensor '" + t.name + "' has an unknown type");
    t.type = *type;
    t.shape = j.at("shape").get<Shape>();
    t.address = j.at("address").get<uint64_t>();
    if (t.address > p.dram_bytes || t.bytes() > p.dram_bytes - t.address) fail(ErrorCode::kBadInput, where, "tensor '" + t.name + "' lies outside the program's DRAM");
    out.push_back(std::move(t));
  }
  return out;
}

}  // namespace

std::string header_text(const Program& p) {
  json layers = json::array();
  for (const auto& l : p.layers) layers.push_back({l.name, l.kind, l.macs, l.ideal_mx_cycles});
  // layer_of is stored as runs: [layer, count]
  json runs = json::array();
  for (size_t i = 0; i < p.layer_of.size();) {
    size_t end = i;
    while (end < p.layer_of.size() && p.layer_of[end] == p.layer_of[i]) ++end;
    runs.push_back({p.layer_of[i], end - i});
    i = end;
  }
  json head = {{"model", p.model}, {"precision", p.precision}, {"machine", p.machine_name}, {"machine_hash", p.machine_hash}, {"dram_bytes", p.dram_bytes}, {"constants_address", p.constants_address},
               {"inputs", to_json(p.inputs)}, {"outputs", to_json(p.outputs)}, {"layers", layers}, {"layer_of", runs}, {"weights_bytes", p.weights_bytes},
               {"scratchpad_peak_bytes", p.scratchpad_peak_bytes}, {"compulsory_dram_bytes", p.compulsory_dram_bytes}};
  if (p.batch != 1) head["batch"] = p.batch;
  return head.dump(-1, ' ', false, json::error_handler_t::replace);
}

void check_batch(const std::string& where, int64_t batch) {
  constexpr int64_t kMost = 65536;
  if (batch < 1 || batch > kMost) fail(ErrorCode::kBadInput, where, "a batch of " + std::to_string(batch), "1 to " + std::to_string(kMost));
}

void apply_header(Program& p, std::string_view text, const std::string& where) {
  try {
    const json j = json::parse(text.begin(), text.end());
    p.model = j.at("model").get<std::string>(), p.precision = j.at("precision").get<std::string>(), p.machine_name = j.at("machine").get<std::string>();
    p.machine_hash = j.at("machine_hash").get<uint64_t>(), p.dram_bytes = j.at("dram_bytes").get<uint64_t>();
    p.constants_address = j.at("constants_address").get<uint64_t>();
    if (p.dram_bytes > kMaxDram || p.constants_address > p.dram_bytes || p.constants.size() > p.dram_bytes - p.constants_address) {
      fail(ErrorCode::kBadInput, where, "DRAM size " + std::to_string(p.dram_bytes), "room for the constants, at most 2^40");
    }
    p.batch = j.value("batch", int64_t{1});
    check_batch(where, p.batch);
    p.inputs = boundary_from(j.at("inputs"), p, where), p.outputs = boundary_from(j.at("outputs"), p, where);
    for (const auto& l : j.at("layers")) p.layers.push_back({l.at(0).get<std::string>(), l.at(1).get<std::string>(), l.at(2).get<int64_t>(), l.at(3).get<int64_t>()});
    p.weights_bytes = j.at("weights_bytes").get<int64_t>(), p.scratchpad_peak_bytes = j.at("scratchpad_peak_bytes").get<int64_t>();
    p.compulsory_dram_bytes = j.at("compulsory_dram_bytes").get<int64_t>();
    for (const auto& run : j.at("layer_of")) {
      const auto layer = run.at(0).get<uint64_t>(), count = run.at(1).get<uint64_t>();
      if (layer >= p.layers.size() || count > p.code.size() - p.layer_of.size()) fail(ErrorCode::kBadInput, where, "the layer table does not match the code");
      p.layer_of.insert(p.layer_of.end(), count, static_cast<uint32_t>(layer));
    }
    if (p.layer_of.size() != p.code.size()) fail(ErrorCode::kBadInput, where, "the layer table does not cover the code");
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadInput, where, std::string("header: ") + e.what(), "a header written by 'systole compile'");
  }
}

std::vector<uint8_t> serialise(const Program& p) {
  auto out = serialise_before_constants(p);
  out.insert(out.end(), p.constants.begin(), p.constants.end());
  return out;
}

std::vector<uint8_t> serialise_before_constants(const Program& p) {
  const std::string text = header_text(p);
  const auto code = encode_all(p.code);
  Head h{};
  std::memcpy(h.magic, kMagic, 8);
  h.json_bytes = text.size(), h.code_bytes = code.size(), h.constant_bytes = p.constants.size();
  std::vector<uint8_t> out(sizeof h);
  std::memcpy(out.data(), &h, sizeof h);
  out.insert(out.end(), text.begin(), text.end());
  out.insert(out.end(), code.begin(), code.end());
  return out;
}

Program deserialise(const Bytes& bytes, const std::string& where) {
  Head h{};
  if (bytes.size() < sizeof h || std::memcmp(bytes.data(), kMagic, 8) != 0) {
    fail(ErrorCode::kBadInput, where, "not a Systole program of this version", "a file written by 'systole compile'");
  }
  std::memcpy(&h, bytes.data(), sizeof h);
  const uint64_t body = bytes.size() - sizeof h;
  if (h.json_bytes > body || h.code_bytes > body - h.json_bytes || h.constant_bytes != body - h.json_bytes - h.code_bytes) {
    fail(ErrorCode::kBadInput, where, "section sizes do not add up to the file's size", std::to_string(body) + " bytes in all", "the file may be truncated: compile again");
  }
  Program p;
  const uint8_t* at = bytes.data() + sizeof h;
  p.code = decode_all({at + h.json_bytes, h.code_bytes}, where);
  p.constants = bytes.slice(sizeof h + h.json_bytes + h.code_bytes, h.constant_bytes);
  apply_header(p, {reinterpret_cast<const char*>(at), h.json_bytes}, where);
  return p;
}

namespace {
constexpr size_t kDataBytesPerLine = 64;
}

std::string print_program(const Program& p) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = ".program " + header_text(p) + "\n" + disassemble_all(p.code);
  for (size_t i = 0; i < p.constants.size(); i += kDataBytesPerLine) {
    text += ".data ";
    for (size_t k = i; k < std::min(p.constants.size(), i + kDataBytesPerLine); ++k) text += kDigits[p.constants[k] >> 4], text += kDigits[p.constants[k] & 15];
    text += "\n";
  }
  return text;
}

Program parse_program(const std::string& text, const std::string& source) {
  Program p;
  std::string header, code;
  std::vector<uint8_t> constants;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.starts_with(".program ")) {
      header = line.substr(9);
    } else if (line.starts_with(".data ")) {
      auto digit = [&](char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        fail(ErrorCode::kBadInput, source + ":" + std::to_string(number), std::string("'") + c + "'", "hexadecimal digits");
      };
      if (line.size() % 2) fail(ErrorCode::kBadInput, source + ":" + std::to_string(number), "an odd number of digits");
      for (size_t i = 6; i + 1 < line.size(); i += 2) constants.push_back(static_cast<uint8_t>(digit(line[i]) << 4 | digit(line[i + 1])));
      line.clear();
    } else {
      code += line;
    }
    code += "\n";  // keeps the assembler's line numbers
  }
  p.constants = std::move(constants);
  p.code = assemble(code, source);
  if (header.empty()) fail(ErrorCode::kBadInput, source, "no .program line", "the header that 'systole disasm' prints");
  apply_header(p, header, source);
  return p;
}

}  // namespace systole::isa
