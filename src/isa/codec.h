// Binary form of instructions, derived from their field lists.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "isa/instruction.h"

namespace systole::isa {

/// Appends the words of one instruction. Values that do not fit their field are an error of ours (checked).
void encode(const Instruction& instruction, std::vector<uint8_t>& out);
std::vector<uint8_t> encode_all(const std::vector<Instruction>& code);

/// Decodes a whole program. Fails with the byte offset on an unknown opcode, a truncated instruction, a value outside
/// its enumeration, or non-zero bits where no field is.
std::vector<Instruction> decode_all(std::span<const uint8_t> bytes, const std::string& where);

/// Words of the instruction's encoding.
int words_of(const Instruction& instruction);

/// A random instruction: every field drawn over its whole range, enumerations over their members.
Instruction random_instruction(std::mt19937_64& rng);

/// One line of assembly: mnemonic, then name=value for each field that differs from its default.
std::string disassemble(const Instruction& instruction);
std::string disassemble_all(const std::vector<Instruction>& code);

/// Parses assembly text; '#' starts a comment. Fails with `source`:line and what was expected.
std::vector<Instruction> assemble(const std::string& text, const std::string& source);

/// The reference manual in Markdown.
std::string manual();

}  // namespace systole::isa
