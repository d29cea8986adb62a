#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "isa/codec.h"
#include "isa/footprint.h"
#include "isa/program.h"
#include "isa/sequencer.h"

namespace systole::isa {
namespace {

TEST(Codec, RandomProgramsRoundTripInBinaryAndText) {
  std::mt19937_64 rng(20260101);
  for (int round = 0; round < 40; ++round) {
    std::vector<Instruction> code;
    for (int i = 0; i < 256; ++i) code.push_back(random_instruction(rng));
    EXPECT_EQ(encode_all(decode_all(encode_all(code), "test")), encode_all(code));
    EXPECT_EQ(encode_all(assemble(disassemble_all(code), "test")), encode_all(code));
  }
}

TEST(Codec, MicroOperationCountMatchesTheTable) {
  for (int i = 0; i < kMicroCount; ++i) EXPECT_NE(micro_info(static_cast<Micro>(i)).name, nullptr);
}

TEST(Codec, RejectsDamagedCode) {
  EXPECT_THROW(decode_all(std::vector<uint8_t>(32, 0xFF), "x"), Failure);          // unknown opcode
  EXPECT_THROW(decode_all(std::vector<uint8_t>(31, 0), "x"), Failure);             // truncated word
  std::vector<uint8_t> nop(32, 0);
  nop[20] = 1;
  EXPECT_THROW(decode_all(nop, "x"), Failure);                                      // bits where no field is
}

std::string error_of(const std::string& text) {
  try {
    sequence(assemble(text, "t.s"), "program");
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

TEST(Assembler, ErrorsSayWhereAndWhat) {
  const struct { const char *text, *expected; } kCases[] = {
      {"bogus\n", "t.s:1: unknown instruction 'bogus'"},
      {"nop\nset rd=40 imm=1\n", "t.s:2: rd=40"},
      {"set rd=1 colour=2\n", "name=value with a field of 'set': rd, imm"},
      {"load src=moon\n", "one of dram spm acc fill"},
      {"load desc=0\nend\n", "uses a copy descriptor that was never written"},
      {"nop\n", "an 'end'"},
      {"loop body=65 count=1\nend\n", "1 to 64 instructions"},
      {"divup rd=1 ra=0 imm=0\nend\n", "positive divisor"},
      {"copydesc engine=mx\nend\n", "copydesc for an engine that does not copy"},
      {"set rd=1 imm=-5\ncopydesc engine=ld\nload src_reg=1\nend\n", "address -5"},
      {"set rd=1 imm=140000000000000\nmul rd=1 ra=1 imm=60000\ncopydesc engine=ld\nload src_reg=1\nend\n", "an address of 0 to 2^48"},
      {"dequantize bits=3 columns=8\nend\n", "fill whole bytes"},
      {"dequantize columns=3\nend\n", "fill whole bytes"},
      {"dequantize columns=8 to=0\nend\n", "1, 2 or 3"},
  };
  for (const auto& c : kCases) EXPECT_NE(error_of(c.text).find(c.expected), std::string::npos) << c.text << " gave: " << error_of(c.text);
}

TEST(Sequencer, LoopsAndRegisters) {
  const auto code = assemble(
      "copydesc engine=ld index=0\n"
      "set rd=1 imm=100\n"
      "set rd=2 imm=1\n"
      "loop body=4 count=2 count_reg=2\n"
      "loop body=2 count=2\n"
      "load src_reg=1\n"
      "add rd=1 ra=1 imm=10\n"
      "mul rd=3 ra=1 imm=2\n"
      "ringadd rd=1 step=7 base=100 size=50\n"
      "end\n",
      "t");
  const auto s = sequence(code, "t");
  std::vector<uint64_t> addresses;
  for (const auto& op : s.ops) {
    if (const auto* c = std::get_if<CopyOp>(&op.op)) addresses.push_back(c->src_address);
  }
  EXPECT_EQ(addresses, (std::vector<uint64_t>{100, 110, 120, 130, 140, 150}));
}

TEST(Sequencer, ZeroTripsSkipTheBody) {
  const auto s = sequence(assemble("copydesc engine=ld\nloop body=1 count=0\nload\nend\n", "t"), "t");
  EXPECT_EQ(s.ops.size(), 1u);
}

TEST(Sequencer, EndlessProgramsStop) {
  std::string nested;
  for (int i = 0; i < 4; ++i) nested += "loop body=" + std::to_string(4 - i) + " count=4000000000\n";
  EXPECT_NE(error_of(nested + "nop\nend\n").find("instructions executed"), std::string::npos);
}

TEST(Program, SerialisesAndRefusesDamage) {
  Program p;
  p.model = "m", p.machine_name = "edge", p.dram_bytes = 256, p.constants_address = 128, p.constants = std::vector<uint8_t>(100, 7);
  p.code = {Nop{}, End{}}, p.layers = {{"l", "map", 1, 2}}, p.layer_of = {0, 0};
  p.inputs = {{"x", DType::kF32, {2, 2}, 64}};
  const auto bytes = serialise(p);
  EXPECT_EQ(serialise(deserialise(bytes, "t")), bytes);
  EXPECT_EQ(serialise(parse_program(print_program(p), "t")), bytes);
  for (size_t n = 0; n < bytes.size(); n += 7) EXPECT_THROW(deserialise(std::vector<uint8_t>(bytes.begin(), bytes.begin() + static_cast<long>(n)), "t"), Failure) << n;
  p.inputs[0].address = 250;
  EXPECT_THROW(deserialise(serialise(p), "t"), Failure);
}

/// B's bytes end with the last column that there is, not with the tile that it begins.
TEST(Footprint, WeightsEndWithTheLastColumn) {
  constexpr int64_t kColumns = 16;
  for (const bool along_k : {false, true}) {  // which of K and N lies side by side
    for (uint32_t n : {1u, 15u, 16u, 17u, 49u, 64u}) {
      MatrixDesc d;
      d.format = 3, d.kernel_h = d.kernel_w = 1, d.channels = 32;
      d.b_row_pitch = along_k ? 4 : 4 * n, d.b_column_pitch = along_k ? 4 * 32 : 4, d.b_tile_pitch = static_cast<uint32_t>(kColumns * d.b_column_pitch);
      int64_t end = 0;
      for (int64_t o = 0; o < n; ++o) end = std::max<int64_t>(end, o / kColumns * d.b_tile_pitch + o % kColumns * d.b_column_pitch + 31 * d.b_row_pitch + 4);
      EXPECT_EQ(weights_reach(d, n, kColumns), end) << n;
      EXPECT_EQ(end, int64_t{32} * n * 4) << n;
    }
  }
}

}  // namespace
}  // namespace systole::isa
