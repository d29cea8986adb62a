#include "isa/codec.h"

#include "base/error.h"
#include "isa/scalar.h"

namespace systole::isa {
namespace {

constexpr size_t kOpcodes = std::variant_size_v<Instruction>;

struct BitWriter {
  std::vector<uint8_t>& out;
  size_t base;
  int position = 0;
  void put(uint64_t v, int bits) {
    for (int i = 0; i < bits;) {
      const int at = position + i, n = std::min(8 - at % 8, bits - i);
      out[base + static_cast<size_t>(at / 8)] |= static_cast<uint8_t>(((v >> i) & mask(n)) << (at % 8));
      i += n;
    }
    position += bits;
  }
};

struct BitReader {
  std::span<const uint8_t> in;
  int position = 0;
  uint64_t get(int bits) {
    uint64_t v = 0;
    for (int i = 0; i < bits;) {
      const int at = position + i, n = std::min(8 - at % 8, bits - i);
      v |= ((uint64_t{in[static_cast<size_t>(at / 8)]} >> (at % 8)) & mask(n)) << i;
      i += n;
    }
    position += bits;
    return v;
  }
};

template <class I>
constexpr int kWords = (bits_of<I>() + 8 * kWordBytes - 1) / (8 * kWordBytes);

/// Where an instruction stands, as text only for those who fail.
struct Place {
  const std::string& where;
  size_t at;
  std::string text() const { return where + " at byte " + std::to_string(at); }
};

template <class I>
Instruction decode_as(std::span<const uint8_t> bytes, const Place& place) {
  I instruction;
  BitReader reader{bytes, kOpcodeBits};
  visit_fields(instruction, [&](const auto& field, auto& member) {
    for_each_element(member, [&](auto& e) {
      if (!from_raw(reader.get(field.bits), field.bits, e)) fail(ErrorCode::kBadInput, place.text(), std::string("field '") + field.name + "' of '" + I::kName + "' holds no member of its enumeration");
    });
  });
  for (int rest = static_cast<int>(bytes.size()) * 8 - reader.position; rest > 0; rest -= 64) {
    if (reader.get(std::min(rest, 64)) != 0) fail(ErrorCode::kBadInput, place.text(), std::string("non-zero bits after the fields of '") + I::kName + "'", "zeros");
  }
  return instruction;
}

struct OpcodeRow {
  int words;
  Instruction (*decode)(std::span<const uint8_t>, const Place&);
  Instruction (*blank)();
};

template <size_t... k>
constexpr std::array<OpcodeRow, sizeof...(k)> make_rows(std::index_sequence<k...>) {
  return {OpcodeRow{kWords<std::variant_alternative_t<k, Instruction>>, &decode_as<std::variant_alternative_t<k, Instruction>>,
                    []() -> Instruction { return std::variant_alternative_t<k, Instruction>{}; }}...};
}
constexpr auto kRows = make_rows(std::make_index_sequence<kOpcodes>{});

}  // namespace

int words_of(const Instruction& instruction) { return kRows[instruction.index()].words; }

void encode(const Instruction& instruction, std::vector<uint8_t>& out) {
  const size_t base = out.size();
  out.resize(base + static_cast<size_t>(words_of(instruction)) * kWordBytes);
  BitWriter writer{out, base};
  writer.put(instruction.index(), kOpcodeBits);
  std::visit(
      [&](const auto& i) {
        visit_fields(i, [&](const auto& field, const auto& member) {
          for_each_element(member, [&](const auto& e) {
            const uint64_t raw = to_raw(e);
            std::remove_cvref_t<decltype(e)> back{};
            SYSTOLE_CHECK(from_raw(raw & mask(field.bits), field.bits, back) && to_raw(back) == raw,
                          std::string(std::remove_cvref_t<decltype(i)>::kName) + "." + field.name + " = " + std::to_string(static_cast<int64_t>(raw)));
            writer.put(raw, field.bits);
          });
        });
      },
      instruction);
}

std::vector<uint8_t> encode_all(const std::vector<Instruction>& code) {
  std::vector<uint8_t> out;
  for (const auto& i : code) encode(i, out);
  return out;
}

std::vector<Instruction> decode_all(std::span<const uint8_t> bytes, const std::string& where) {
  std::vector<Instruction> code;
  size_t count = 0;
  for (size_t at = 0; at < bytes.size() && bytes[at] < kOpcodes; ++count) at += static_cast<size_t>(kRows[bytes[at]].words) * kWordBytes;
  code.reserve(count);
  for (size_t at = 0; at < bytes.size();) {
    const Place place{where, at};
    if (bytes[at] >= kOpcodes) fail(ErrorCode::kBadInput, place.text(), "opcode " + std::to_string(bytes[at]), "an opcode below " + std::to_string(kOpcodes));
    const size_t size = static_cast<size_t>(kRows[bytes[at]].words) * kWordBytes;
    if (bytes.size() - at < size) fail(ErrorCode::kBadInput, place.text(), "the code ends inside an instruction", std::to_string(size) + " bytes");
    code.push_back(kRows[bytes[at]].decode(bytes.subspan(at, size), place));
    at += size;
  }
  return code;
}

Instruction random_instruction(std::mt19937_64& rng) {
  Instruction instruction = kRows[rng() % kOpcodes].blank();
  std::visit(
      [&](auto& i) {
        visit_fields(i, [&](const auto& field, auto& member) {
          for_each_element(member, [&](auto& e) {
            while (!from_raw(rng() & mask(field.bits), field.bits, e)) {
            }
          });
        });
      },
      instruction);
  return instruction;
}

}  // namespace systole::isa
