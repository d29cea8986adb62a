#include "isa/sequencer.h"

#include <cstring>

#include "base/error.h"
#include "isa/codec.h"

namespace systole::isa {
namespace {

struct Frame {
  size_t first, end;
  int64_t left;
};

class Walker {
 public:
  Walker(const std::vector<Instruction>& code, const std::string& where, const std::function<int64_t(uint64_t)>& read_dram, uint64_t limit)
      : code_(code), where_(where), read_dram_(read_dram), limit_(limit) {}

  Sequence run() {
    uint64_t steps = 0;
    out_.ops.reserve(code_.size()), out_.words_before.reserve(code_.size());
    while (pc_ < code_.size()) {
      if (++steps > limit_) bad("more than " + std::to_string(limit_) + " instructions executed", "a program that ends sooner");
      words_ += static_cast<uint32_t>(words_of(code_[pc_]));
      const size_t at = pc_++;
      if (std::holds_alternative<End>(code_[at])) return std::move(out_);
      std::visit([&](const auto& i) { step(i, static_cast<uint32_t>(at)); }, code_[at]);
      while (!frames_.empty() && pc_ == frames_.back().end) {
        if (--frames_.back().left > 0) pc_ = frames_.back().first;
        else frames_.pop_back();
      }
    }
    bad("the program runs past its last instruction", "an 'end'");
  }

 private:
  [[noreturn]] void bad(const std::string& found, const std::string& expected = {}) {
    fail(ErrorCode::kBadInput, where_ + " instruction " + std::to_string(pc_ ? pc_ - 1 : 0), found, expected);
  }
  void set(uint8_t rd, int64_t v) {
    if (rd != 0) registers_[rd] = v;
  }
  uint64_t address(uint8_t reg, uint64_t imm) {
    const int64_t a = static_cast<int64_t>(static_cast<uint64_t>(registers_[reg]) + imm);
    // Far above any memory; sums of addresses and extents stay within 63 bits.
    if (a < 0 || a >= int64_t{1} << 48) bad("address " + std::to_string(a), "an address of 0 to 2^48");
    return static_cast<uint64_t>(a);
  }
  template <class T>
  const T* need(const T* slot, const char* what) {
    if (!slot) bad(std::string("uses a ") + what + " that was never written");
    return slot;
  }
  void push(uint32_t at, Engine engine, const Waits& wait, uint32_t locks, decltype(Dispatched::op) op) {
    out_.ops.push_back({at, engine, wait, locks, op});
    out_.words_before.push_back(std::exchange(words_, 0));
  }

  void step(const Nop&, uint32_t) {}
  void step(const End&, uint32_t) {}
  void step(const SetReg& i, uint32_t) { set(i.rd, i.imm); }
  void step(const AddReg& i, uint32_t) { set(i.rd, wrap(static_cast<uint64_t>(registers_[i.ra]) + static_cast<uint64_t>(registers_[i.rb]) + static_cast<uint64_t>(i.imm))); }
  void step(const MulReg& i, uint32_t) { set(i.rd, wrap(static_cast<uint64_t>(registers_[i.ra]) * static_cast<uint64_t>(i.imm))); }
  void step(const MinReg& i, uint32_t) { set(i.rd, std::min(registers_[i.ra], registers_[i.rb])); }
  void step(const DivUpReg& i, uint32_t) {
    if (i.imm <= 0 || registers_[i.ra] < 0) bad("divup of " + std::to_string(registers_[i.ra]) + " by " + std::to_string(i.imm), "a dividend of 0 or more and a positive divisor");
    set(i.rd, registers_[i.ra] / i.imm + (registers_[i.ra] % i.imm != 0));
  }
  void step(const RingAddReg& i, uint32_t) {
    if (i.size <= 0) bad("ring of " + std::to_string(i.size) + " bytes", "a positive size");
    const int64_t offset = (registers_[i.rd] % i.size - i.base % i.size + i.step % i.size) % i.size;
    set(i.rd, i.base + (offset + i.size) % i.size);
  }
  void step(const LoadReg& i, uint32_t) {
    if (!read_dram_) bad("loadreg without memory");
    set(i.rd, read_dram_(i.address));
  }
  void step(const Loop& i, uint32_t) {
    const int64_t trips = wrap(static_cast<uint64_t>(registers_[i.count_reg]) + i.count);
    if (i.body < 1 || i.body > kLoopBuffer || pc_ + i.body > code_.size()) bad("loop body of " + std::to_string(i.body), "1 to 64 instructions inside the program");
    if (frames_.size() == kMaxLoopDepth) bad("loops nested deeper than four");
    if (!frames_.empty() && pc_ + i.body > frames_.back().end) bad("loop body crosses the end of the loop around it");
    if (trips < 0) bad("loop count " + std::to_string(trips), "0 or more");
    if (trips == 0) {
      pc_ += i.body;
      return;
    }
    frames_.push_back({pc_, pc_ + i.body, trips});
  }
  void step(const CopyDesc& d, uint32_t at) {
    if (d.engine != Engine::kLoad && d.engine != Engine::kStore) bad("copydesc for an engine that does not copy", "ld or st");
    if (d.element_bytes != 1 && d.element_bytes != 2 && d.element_bytes != 4 && d.element_bytes != 8) bad("element_bytes=" + std::to_string(d.element_bytes), "1, 2, 4 or 8");
    copy_[static_cast<int>(d.engine)][d.index] = &d;
    push(at, d.engine, kNoWaits, 0, DescriptorWrite{});
  }
  void step(const MatrixDesc& d, uint32_t at) {
    matrix_[d.index] = &d;
    push(at, Engine::kMatrix, kNoWaits, 0, DescriptorWrite{});
  }
  void step(const VectorDesc& d, uint32_t at) {
    if (d.reduced >= kVectorDims) bad("reduced=" + std::to_string(d.reduced), "fewer than six dimensions reduced");
    vector_[d.index] = &d;
    push(at, Engine::kVector, kNoWaits, 0, DescriptorWrite{});
  }
  void step(const VectorProgram& p, uint32_t at) {
    if (p.pre_count + p.post_count > kMicroOps) bad("more than 16 micro-operations");
    program_[p.index] = &p;
    push(at, Engine::kVector, kNoWaits, 0, DescriptorWrite{});
  }
  template <int kTag>
  void step(const CopyInstruction<kTag>& i, uint32_t at) {
    const Engine engine = kTag == 0 ? Engine::kLoad : Engine::kStore;
    const uint64_t src = i.src == Space::kFill ? i.src_imm : address(i.src_reg, i.src_imm);
    push(at, engine, i.wait, i.locks, CopyOp{need(copy_[kTag][i.desc], "copy descriptor"), i.src, i.dst, src, address(i.dst_reg, i.dst_imm)});
  }
  void step(const Dequantize& i, uint32_t at) {
    if ((i.bits != 2 && i.bits != 4 && i.bits != 8) || i.columns * i.bits % 8) bad(std::to_string(i.columns) + " columns of " + std::to_string(i.bits) + " bits", "2, 4 or 8 bits that fill whole bytes");
    if (i.to < 1) bad("dequantises to integers", "1, 2 or 3");
    push(at, Engine::kLoad, i.wait, i.locks,
         DequantizeOp{{i.rows, i.columns, i.bits, i.half_scales ? 2 : 4}, i.records, i.to == 3 ? 4 : 2, address(i.src_reg, i.src_imm), address(i.dst_reg, i.dst_imm), i.to});
  }
  void step(const Matrix& i, uint32_t at) {
    push(at, Engine::kMatrix, i.wait, i.locks,
         MatrixOp{need(matrix_[i.desc], "matrix descriptor"), i.init, address(i.a_reg, i.a_imm), address(i.b_reg, i.b_imm), address(i.bias_reg, i.bias_imm), i.acc, i.out_rows, i.out_columns, i.n,
                  i.in_rows, i.row_origin, i.column_origin});
  }
  void step(const Vector& i, uint32_t at) {
    VectorOp op{need(vector_[i.desc], "vector descriptor"), need(program_[i.program], "micro-program"), i.spaces, {}, i.guard_h_origin, i.guard_w_origin};
    for (size_t k = 0; k < op.addresses.size(); ++k) op.addresses[k] = address(i.regs[k], i.imms[k]);
    push(at, Engine::kVector, i.wait, i.locks, op);
  }
  static int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }

  const std::vector<Instruction>& code_;
  const std::string& where_;
  const std::function<int64_t(uint64_t)>& read_dram_;
  const uint64_t limit_;
  size_t pc_ = 0;
  uint32_t words_ = 0;
  int64_t registers_[kRegisters] = {};
  std::vector<Frame> frames_;
  const CopyDesc* copy_[2][kDescriptors] = {};
  const MatrixDesc* matrix_[kDescriptors] = {};
  const VectorDesc* vector_[kDescriptors] = {};
  const VectorProgram* program_[kDescriptors] = {};
  Sequence out_;
};

}  // namespace

Sequence sequence(const std::vector<Instruction>& code, const std::string& where, const std::function<int64_t(uint64_t)>& read_dram, uint64_t limit) {
  return Walker(code, where, read_dram, limit).run();
}

Sequence sequence(const Program& program) {
  const std::string where = "program '" + program.model + "'";
  return sequence(program.code, where, [&](uint64_t address) {
    int64_t v = 0;
    const uint64_t size = program.constants.size();
    if (address < program.constants_address || size < sizeof v || address - program.constants_address > size - sizeof v) {
      fail(ErrorCode::kBadInput, where, "loadreg of DRAM address " + std::to_string(address), "an address inside the constants");
    }
    std::memcpy(&v, program.constants.data() + (address - program.constants_address), sizeof v);
    return v;
  });
}

}  // namespace systole::isa
