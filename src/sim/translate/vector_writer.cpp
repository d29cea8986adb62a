#include "sim/translate/vector_writer.h"

#ifdef SYSTOLE_X86
#include <algorithm>
#include <cmath>

#include "numerics/functions.h"
#include "numerics/reduce.h"
#include "sim/translate/vector_writer_parts.h"

namespace systole {
namespace {

using isa::Reduce;
using isa::StreamType;

int power_of_two_from(int64_t n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}
/// Its refined reciprocal is worked out here, once.
bool divides_by_constant(const isa::MicroOp& m) { return m.op == isa::Micro::kDivide && m.b >= isa::kOperandConstant && m.b < isa::kOperandConstant + isa::kMicroConstants; }
bool is_integer(StreamType t) { return t == StreamType::kI8 || t == StreamType::kU8 || t == StreamType::kI16 || t == StreamType::kU16; }

}  // namespace

VectorWriter::VectorWriter(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan, int lanes, const LaneKernels& kernels)
    : Xbyak::CodeGenerator(4096, Xbyak::AutoGrow), d_(desc), p_(program), plan_(plan), kernels_(kernels), lanes_(lanes), bytes_(4 * lanes) {
  for (int i = 0; i < p_.pre_count + p_.post_count; ++i) calls_ = calls_ || kernels_.vector_function(p_.ops[static_cast<size_t>(i)].op);
  if (plan_.kind == VectorPlan::Kind::kLanesKept && p_.reduce == Reduce::kSum) partials_ = power_of_two_from(std::min<int64_t>(plan_.reduced_positions(), kSumPartials));
}

void VectorWriter::write() {
  write_body();
  if (write_again()) {
    reset();
    pool_.clear();
    write_body();
  }
  for (auto& [key, label] : pool_) {
    align(lanes_ == 16 ? 4 : bytes_);
    L(*label);
    write_pool_entry(key);
  }
  ready();
}

void VectorWriter::write_body() {
  enter();
  switch (plan_.kind) {
    case VectorPlan::Kind::kMap: write_rows([&] { write_map_row(); }); break;
    case VectorPlan::Kind::kLanesReduced: write_rows([&] { write_reduced_row(); }); break;
    case VectorPlan::Kind::kLanesKept: write_lanes([&](bool tail) { write_kept(tail); }); break;
  }
  leave();
}

void VectorWriter::enter() {
  for (const Reg64& r : {rbp, rbx, r12, r13, r14, r15}) push(r);
  mov(rax, rsp);
  sub(rsp, words_at() + kWords);
  and_(rsp, -bytes_);
  lea(rdx, ptr[rsp + words_at()]);
  mov(ptr[rdx + kStackWord], rax);
  mov(ptr[rdx + kCallWord], rdi);
  point_at_position(rdi);
  mov(r14, ptr[rdi + offsetof(VectorCall, out)]);
  load_constants();
}

void VectorWriter::leave() {
  mov(rsp, ptr[rsp + words_at() + kStackWord]);
  for (const Reg64& r : {r15, r14, r13, r12, rbx, rbp}) pop(r);
  vzeroupper();
  ret();
}

void VectorWriter::point_at_position(const Reg64& position) {
  mov(rbx, ptr[position]);
  mov(r12, ptr[position + 8]);
  mov(r13, ptr[position + 16]);
}

void VectorWriter::add_bytes(const Reg64& r, int64_t bytes) {
  if (bytes == 0) return;
  if (bytes == static_cast<int32_t>(bytes)) {
    add(r, static_cast<uint32_t>(static_cast<int32_t>(bytes)));
  } else {
    mov(rax, bytes);
    add(r, rax);
  }
}

void VectorWriter::write_rows(const std::function<void()>& row) {
  Xbyak::Label next;
  mov(rbp, plan_.rows.extent);
  L(next);
  row();
  const Reg64 pointers[] = {rbx, r12, r13, r14};
  for (size_t s = 0; s < kVectorStreams; ++s) add_bytes(pointers[s], plan_.rows.strides[s]);
  dec(rbp);
  jnz(next, T_NEAR);
}

/// The body on whole registers of the lanes, then on the rest.
void VectorWriter::write_lanes(const std::function<void(bool tail)>& body) {
  const int64_t whole = plan_.lanes.extent / lanes_, tail = plan_.lanes.extent % lanes_;
  xor_(kLane, kLane);
  if (whole > 0) {
    Xbyak::Label next;
    L(next);
    body(false);
    add(kLane, lanes_);
    if (whole > 1) {
      cmp(kLane, static_cast<uint32_t>(whole * lanes_));
      jl(next, T_NEAR);
    }
  }
  if (tail > 0) {
    set_tail(static_cast<uint32_t>(tail));
    body(true);
  }
}

void VectorWriter::write_map_row() {
  const int last = p_.pre_count + p_.post_count;
  hold_broadcast_streams(0, last);
  write_lanes([&](bool tail) {
    load_streams(0, last, tail, false);
    store(compute(0, last, tail), tail, false);
  });
}

Xbyak::Address VectorWriter::pooled(uint32_t bits) {
  auto& label = pool_[bits];
  if (!label) label = std::make_unique<Xbyak::Label>();
  return ptr[rip + *label];
}

bool VectorWriter::stream_used(int first, int last, size_t stream) const {
  if (d_.types[stream] == StreamType::kNone) return false;
  if (first == last) return stream == 0;  // no operations: stream 0 is the value
  return live_after(first - 1, last, static_cast<uint8_t>(isa::kOperandStream + stream));
}

/// Whether an operation after `at` and before `last` reads this operand before it is written.
bool VectorWriter::live_after(int at, int last, uint8_t number) const {
  for (int i = at + 1; i < last; ++i) {
    const isa::MicroOp& m = p_.ops[static_cast<size_t>(i)];
    const int operands = isa::micro_info(m.op).operands;
    if (m.a == number || (operands > 1 && m.b == number) || (operands > 2 && m.c == number)) return true;
    if (m.dst == number) return false;
  }
  return false;
}

/// Streams that do not advance along the lanes are loaded once per row, unless calls would clobber them.
void VectorWriter::hold_broadcast_streams(int first, int last) {
  for (size_t s = 0; s < isa::kVectorInputs; ++s) {
    stream_held_[s] = !calls_ && plan_.lanes.strides[s] == 0 && stream_used(first, last, s);
    if (stream_held_[s]) stream_held_[s] = false, load(s, false, true), stream_held_[s] = true;
  }
}

void VectorWriter::load_streams(int first, int last, bool tail, bool scalar) {
  for (size_t s = 0; s < isa::kVectorInputs; ++s) {
    if (stream_used(first, last, s) && !stream_held_[s]) load(s, tail, scalar);
  }
}

void VectorWriter::load(size_t stream, bool tail, bool scalar) {
  const Reg64 pointers[] = {rbx, r12, r13};
  const Reg64& base = pointers[stream];
  const Vec to = vec(8 + static_cast<int>(stream));
  const StreamType type = d_.types[stream];
  const bool may_be_outside = stream == 0 && d_.guard_h_limit != 0;
  Xbyak::Label outside, done;
  if (may_be_outside) {
    test(base, base);
    jz(outside, T_NEAR);
  }
  if (scalar || plan_.lanes.strides[stream] == 0) load_scalar(type, to, base);
  else load_lanes(type, to, base, tail);
  const int zero = p_.in_zero[stream];
  if (is_integer(type)) {
    if (zero != 0) subtract_zero(to, zero);
    vcvtdq2ps(to, to);
  }
  if (may_be_outside) {
    jmp(done, T_NEAR);
    L(outside);
    broadcast(to, p_.fill);
    L(done);
  }
}

/// One element in every lane.
void VectorWriter::load_scalar(StreamType type, const Vec& to, const Reg64& from) {
  const Xbyak::Xmm low(to.getIdx());
  switch (type) {
    case StreamType::kF32: vbroadcastss(to, ptr[from]); return;
    case StreamType::kI32:
      vpbroadcastd(to, ptr[from]);
      vcvtdq2ps(to, to);
      return;
    case StreamType::kF16:
      movzx(eax, word[from]);
      vmovd(low, eax);
      vcvtph2ps(low, low);
      vbroadcastss(to, low);
      return;
    case StreamType::kF8E4M3:
    case StreamType::kF8E5M2:
      movzx(eax, byte[from]);
      mov(rcx, reinterpret_cast<uint64_t>(table_of(type)));
      vbroadcastss(to, ptr[rcx + rax * 4]);
      return;
    case StreamType::kBF16:
      movzx(eax, word[from]);
      shl(eax, 16);
      break;
    case StreamType::kI8: movsx(eax, byte[from]); break;
    case StreamType::kU8: movzx(eax, byte[from]); break;
    case StreamType::kI16: movsx(eax, word[from]); break;
    default: movzx(eax, word[from]); break;
  }
  broadcast_eax(to);
}

void VectorWriter::operation(const isa::MicroOp& m) {
  using isa::Micro;
  const int operands = isa::micro_info(m.op).operands;
  const Vec d = vec(m.dst), a = operand(m.a, 0), b = operands > 1 ? operand(m.b, 1) : a, c = operands > 2 ? operand(m.c, 2) : a;
  switch (m.op) {
    case Micro::kMove: vmovaps(d, a); break;
    case Micro::kAdd: vaddps(d, a, b); break;
    case Micro::kSub: vsubps(d, a, b); break;
    case Micro::kMul: vmulps(d, a, b); break;
    case Micro::kFma:
      vmovaps(vec(12), a);
      vfmadd213ps(vec(12), b, c);
      vmovaps(d, vec(12));
      break;
    case Micro::kMax: case Micro::kMin: extreme(m.op == Micro::kMax, d, a, b); break;
    default: special_operation(m.op, d, a, b, c); break;
  }
}

Xbyak::Xmm VectorWriter::compute(int first, int last, bool tail) {
  if (first == last) return vec(8);
  for (int i = first; i < last; ++i) {
    const isa::MicroOp& m = p_.ops[static_cast<size_t>(i)];
    if (divides_by_constant(m)) call_function(kernels_.divide_by(), i, last, tail);
    else if (const VectorFunction f = kernels_.vector_function(m.op)) call_function(f, i, last, tail);
    else operation(m);
  }
  return vec(p_.ops[static_cast<size_t>(last - 1)].dst);
}

void VectorWriter::call_function(VectorFunction f, int at, int last, bool tail) {
  const isa::MicroOp& m = p_.ops[static_cast<size_t>(at)];
  const int operands = isa::micro_info(m.op).operands;
  auto kept = [&](int r) { return r != m.dst && live_after(at, last, static_cast<uint8_t>(r)); };
  const Vec a = operand(m.a, 0), b = operands > 1 ? operand(m.b, 1) : a;
  for (int r = 0; r <= isa::kOperandReduced; ++r) {
    if (kept(r)) vmovaps(ptr[rsp + bytes_ * r], vec(r));
  }
  vmovaps(spare(), b);
  vmovaps(vec(0), a);
  vmovaps(vec(1), spare());
  if (divides_by_constant(m)) broadcast(vec(2), vx_divisor(p_.constants[m.b - static_cast<size_t>(isa::kOperandConstant)]));
  mov(rax, reinterpret_cast<uint64_t>(f.code));
  call(rax);
  if (m.dst != 0) vmovaps(vec(m.dst), vec(0));
  for (int r = 0; r <= isa::kOperandReduced; ++r) {
    if (kept(r)) vmovaps(vec(r), ptr[rsp + bytes_ * r]);
  }
  if (tail) restore_tail();
}

}  // namespace systole
#endif
