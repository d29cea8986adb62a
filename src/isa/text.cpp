// Assembly text and the manual, derived from the field lists.
#include <charconv>
#include <sstream>

#include "base/error.h"
#include "isa/codec.h"
#include "isa/scalar.h"

namespace systole::isa {
namespace {

constexpr size_t kOpcodes = std::variant_size_v<Instruction>;

template <class T>
std::string print(const T& v) {
  if constexpr (std::is_same_v<T, float>) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%08x", std::bit_cast<uint32_t>(v));
    return text;
  } else if constexpr (std::is_same_v<T, MicroOp>) {
    return std::string(micro_info(v.op).name) + ":" + std::to_string(v.dst) + ":" + std::to_string(v.a) + ":" + std::to_string(v.b) + ":" + std::to_string(v.c);
  } else if constexpr (std::is_enum_v<T>) {
    return EnumNames<T>::kNames[static_cast<int>(v)];
  } else {
    return std::to_string(v);
  }
}

bool parse_integer(std::string_view text, uint64_t& raw) {
  int base = 10;
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.starts_with("0x")) base = 16, text.remove_prefix(2);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), raw, base);
  if (negative) raw = ~raw + 1;
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    const size_t next = text.find(separator, at);
    parts.push_back(text.substr(at, next - at));
    if (next == std::string_view::npos) return parts;
    at = next + 1;
  }
}

template <class T>
bool parse(std::string_view text, int bits, T& v) {
  uint64_t raw = 0;
  if constexpr (std::is_same_v<T, MicroOp>) {
    const auto parts = split(text, ':');
    if (parts.size() != 5) return false;
    bool found = false;
    for (int i = 0; i < kMicroCount; ++i) {
      if (parts[0] == micro_info(static_cast<Micro>(i)).name) v.op = static_cast<Micro>(i), found = true;
    }
    uint8_t* const members[] = {&v.dst, &v.a, &v.b, &v.c};
    for (size_t i = 0; i < 4; ++i) {
      if (!parse_integer(parts[i + 1], raw) || raw > (i ? 31u : 7u)) return false;
      *members[i] = static_cast<uint8_t>(raw);
    }
    return found;
  } else if constexpr (std::is_enum_v<T>) {
    for (size_t i = 0; i < enum_count<T>(); ++i) {
      if (text == EnumNames<T>::kNames[i]) return v = static_cast<T>(i), true;
    }
    return false;
  } else {
    if (!parse_integer(text, raw)) return false;
    T back{};
    if (!from_raw(raw & mask(bits), bits, back) || to_raw(back) != raw) return false;
    v = back;
    return true;
  }
}

template <class T>
std::string expectation(int bits) {
  if constexpr (std::is_same_v<T, MicroOp>) return "op:dst:a:b:c";
  else if constexpr (std::is_enum_v<T>) {
    std::string list = "one of";
    for (const char* name : EnumNames<T>::kNames) list += std::string(" ") + name;
    return list;
  } else if constexpr (std::is_same_v<T, float>) return "the 32 bits of an fp32, as 0x3f800000";
  else return std::string(std::is_signed_v<T> ? "a signed" : "an unsigned") + " integer of " + std::to_string(bits) + " bits";
}

template <class T>
void parse_member(std::string_view text, int bits, T& member, const std::string& where, const char* name) {
  auto one = [&](std::string_view part, auto& e) {
    using E = std::remove_cvref_t<decltype(e)>;
    if (!parse(part, bits, e)) fail(ErrorCode::kBadInput, where, std::string(name) + "=" + std::string(part), expectation<E>(bits));
  };
  if constexpr (is_array<T>::value) {
    const auto parts = split(text, ',');
    if (parts.size() > member.size()) fail(ErrorCode::kBadInput, where, std::string(name) + " has " + std::to_string(parts.size()) + " values", "at most " + std::to_string(member.size()));
    for (size_t i = 0; i < parts.size(); ++i) one(parts[i], member[i]);
  } else {
    one(text, member);
  }
}

template <size_t k = 0>
Instruction blank(std::string_view mnemonic, const std::string& where) {
  if constexpr (k == kOpcodes) {
    fail(ErrorCode::kBadInput, where, "unknown instruction '" + std::string(mnemonic) + "'", "a mnemonic of docs/isa.md");
  } else {
    using I = std::variant_alternative_t<k, Instruction>;
    if (mnemonic == I::kName) return I{};
    return blank<k + 1>(mnemonic, where);
  }
}

}  // namespace

std::string disassemble(const Instruction& instruction) {
  return std::visit(
      [](const auto& i) {
        using I = std::remove_cvref_t<decltype(i)>;
        const I standard{};
        std::string line = I::kName;
        visit_fields(i, [&](const auto& field, const auto& member) {
          if (member == standard.*(field.member)) return;
          line += std::string(" ") + field.name + "=";
          using M = std::remove_cvref_t<decltype(member)>;
          if constexpr (is_array<M>::value) {
            // Trailing elements that hold their default are left out.
            const M& usual = standard.*(field.member);
            size_t n = member.size();
            while (n > 1 && member[n - 1] == usual[n - 1]) --n;
            for (size_t k = 0; k < n; ++k) line += (k ? "," : "") + print(member[k]);
          } else {
            line += print(member);
          }
        });
        return line;
      },
      instruction);
}

std::string disassemble_all(const std::vector<Instruction>& code) {
  std::string text;
  for (const auto& i : code) text += disassemble(i) + "\n";
  return text;
}

std::vector<Instruction> assemble(const std::string& text, const std::string& source) {
  std::vector<Instruction> code;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = source + ":" + std::to_string(number);
    line = line.substr(0, line.find('#'));
    std::istringstream words(line);
    std::string word;
    if (!(words >> word)) continue;
    Instruction instruction = blank(word, where);
    while (words >> word) {
      const size_t equals = word.find('=');
      bool known = false;
      if (equals != std::string::npos) {
        std::visit(
            [&](auto& i) {
              visit_fields(i, [&](const auto& field, auto& member) {
                if (std::string_view(word).substr(0, equals) != field.name) return;
                known = true;
                parse_member(std::string_view(word).substr(equals + 1), field.bits, member, where, field.name);
              });
            },
            instruction);
      }
      if (known) continue;
      std::string names;
      std::visit([&](const auto& i) { visit_fields(i, [&](const auto& field, const auto&) { names += std::string(names.empty() ? "" : ", ") + field.name; }); }, instruction);
      fail(ErrorCode::kBadInput, where, "'" + word + "'", std::string("name=value with a field of '") + name_of(instruction) + "': " + (names.empty() ? "(none)" : names));
    }
    code.push_back(std::move(instruction));
  }
  return code;
}

namespace {
template <size_t k = 0>
void manual_rows(std::ostringstream& out) {
  if constexpr (k < kOpcodes) {
    using I = std::variant_alternative_t<k, Instruction>;
    const int bits = bits_of<I>();
    out << "\n## `" << I::kName << "`\n\nOpcode " << k << ", queue " << to_string(engine_of(I{})) << ", " << (bits + 255) / 256 << " word(s), " << bits << " bits. " << I::kHelp << "\n";
    if (std::tuple_size_v<decltype(I::fields)> > 0) out << "\n| field | bits | meaning |\n|---|---|---|\n";
    int at = kOpcodeBits;
    for_each_field<I>([&](const auto& field) {
      using M = std::remove_cvref_t<decltype(std::declval<I>().*(field.member))>;
      int n = 1;
      if constexpr (is_array<M>::value) n = static_cast<int>(std::tuple_size_v<M>);
      out << "| " << field.name << " | " << at << "..." << at + n * field.bits - 1 << (n > 1 ? " (" + std::to_string(n) + " x " + std::to_string(field.bits) + ")" : "") << " | " << field.help
          << " |\n";
      at += n * field.bits;
    });
    manual_rows<k + 1>(out);
  }
}
}  // namespace

std::string manual() {
  std::ostringstream out;
  out << "# Instruction set\n\nWritten by `systole disasm --manual` from `src/isa/instruction.h`; do not edit.\n\n"
         "Words are 256 bits, little-endian; bits 0...7 hold the opcode. Distances `wait` are ordered LD, ST, MX, VX: an instruction may start when at most that many of the\n"
         "instructions dispatched to that engine before it are unretired; 31 waits for nothing.\n";
  manual_rows(out);
  out << "\n## Micro-operations of VX\n\n| name | operands | issue slots | table look-ups | result |\n|---|---|---|---|---|\n";
  for (int i = 0; i < kMicroCount; ++i) {
    const MicroInfo& m = micro_info(static_cast<Micro>(i));
    out << "| " << m.name << " | " << m.operands << " | " << m.slots << " | " << m.table_ops << " | " << m.meaning << " |\n";
  }
  out << "\nA reduction is an operation of one slot more; the lone mov in front of one that reduces a stream takes none.\n";
  return out.str();
}

}  // namespace systole::isa
