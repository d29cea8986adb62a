#include "sim/translate/vector_writer.h"

#ifdef SYSTOLE_X86
#include <algorithm>
#include <cmath>

#include "numerics/reduce.h"
#include "sim/translate/vector_writer_parts.h"

namespace systole {
namespace {

using isa::Reduce;
using isa::StreamType;

// Words of the frame, behind everything else.
constexpr int kWords = 64, kStackWord = 0, kCallWord = 8, kCountWord = 16, kPartialWord = 24;
constexpr int kPositionBytes = sizeof(VectorPointers);
const Xbyak::Reg64& kLane = Xbyak::util::r15;

int power_of_two_from(int64_t n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}
float first_of(Reduce r) { return r == Reduce::kSum ? 0.0f : r == Reduce::kMax ? -INFINITY : INFINITY; }
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

void VectorWriter::write_reduced_step(int partial, bool tail) {
  load_streams(0, p_.pre_count, tail, false);
  add_to_running(compute(0, p_.pre_count, tail), partial, tail);
}

/// Lanes [first, first + n) into the running vectors; kLane is at the first, and ends behind the last whole register.
void VectorWriter::write_reduced_lanes(int64_t first, int64_t n) {
  const int64_t rounds = n / 64;
  start_running(first_of(p_.reduce));
  if (rounds > 0) {
    Xbyak::Label next;
    L(next);
    write_reduced_round();
    if (rounds > 1) {
      cmp(kLane, static_cast<uint32_t>(first + rounds * 64));
      jl(next, T_NEAR);
    }
  }
  const int rest = static_cast<int>(n % 64);
  for (int i = 0; i < rest / lanes_; ++i) {
    write_reduced_step(i, false);
    add(kLane, lanes_);
  }
  if (rest % lanes_ > 0) {
    set_tail(static_cast<uint32_t>(rest % lanes_));
    write_reduced_step(rest / lanes_, true);
  }
}

void VectorWriter::write_reduced_round() {
  for (int i = 0; i < running_vectors(); ++i) {
    write_reduced_step(i, false);
    add(kLane, lanes_);
  }
}

/// Whole blocks of a sum, each folded and added to the total in the frame, which begins at +0: no block's sum is -0.
void VectorWriter::write_blocks(int64_t count) {
  Xbyak::Label block, round;
  const int words = words_at();
  vxorps(vec(12), vec(12), vec(12));
  vmovaps(total_place(), vec(12));
  xor_(eax, eax);
  mov(ptr[rsp + words + kCountWord], rax);
  L(block);
  add(qword[rsp + words + kCountWord], static_cast<uint32_t>(kSumBlock));
  start_running(0.0f);
  L(round);
  write_reduced_round();
  cmp(kLane, ptr[rsp + words + kCountWord]);
  jl(round, T_NEAR);
  add_block();
  cmp(kLane, static_cast<uint32_t>(count * kSumBlock));
  jl(block, T_NEAR);
}

void VectorWriter::add_block() {
  finish_running();
  vaddps(vec(11), vec(11), total_place());
  vmovaps(total_place(), vec(11));
}

void VectorWriter::write_reduced_row() {
  const int64_t n = plan_.lanes.extent, blocks = p_.reduce == Reduce::kSum && n > kSumBlock ? n / kSumBlock : 0, left = n - blocks * kSumBlock;
  hold_broadcast_streams(0, p_.pre_count);
  xor_(kLane, kLane);
  if (blocks > 0) write_blocks(blocks);
  if (left > 0) write_reduced_lanes(blocks * kSumBlock, left);
  if (left > 0) blocks > 0 ? add_block() : finish_running();
  set_tail(1);
  const int last = p_.pre_count + p_.post_count;
  for (bool& held : stream_held_) held = false;
  if (p_.post_count == 0) {
    store(vec(11), true, true);
  } else {
    load_streams(p_.pre_count, last, true, true);
    store(compute(p_.pre_count, last, true), true, true);
  }
}

/// One register of the kept lanes over all reduced positions.
void VectorWriter::write_kept(bool tail) {
  const bool sum = p_.reduce == Reduce::kSum;
  const int words = words_at();
  const Vec first = start_running(first_of(p_.reduce));
  for (int i = 0; i < partials_ && sum; ++i) vmovaps(ptr[rsp + partials_at() + bytes_ * i], first);
  mov(rbp, ptr[rsp + words + kCallWord]);
  mov(rbp, ptr[rbp + offsetof(VectorCall, positions)]);
  mov(eax, static_cast<uint32_t>(plan_.reduced_positions()));
  mov(ptr[rsp + words + kCountWord], rax);
  xor_(eax, eax);
  mov(ptr[rsp + words + kPartialWord], rax);
  Xbyak::Label next;
  L(next);
  point_at_position(rbp);
  load_streams(0, p_.pre_count, tail, false);
  const Vec v = compute(0, p_.pre_count, tail);
  if (sum) {
    mov(rax, ptr[rsp + words + kPartialWord]);
    vaddps(vec(12), v, ptr[rsp + rax + partials_at()]);
    vmovaps(ptr[rsp + rax + partials_at()], vec(12));
    add(rax, bytes_);
    and_(rax, bytes_ * partials_ - 1);
    mov(ptr[rsp + words + kPartialWord], rax);
  } else {
    add_to_running(v, 0, false);  // lanes beyond the tail hold something, and are never stored
  }
  add(rbp, kPositionBytes);
  dec(qword[rsp + words + kCountWord]);
  jnz(next, T_NEAR);
  if (sum) fold_partials();
  else take_running();
  if (p_.post_count == 0) return store(vec(11), tail, false);
  mov(rbp, ptr[rsp + words + kCallWord]);
  mov(rbp, ptr[rbp + offsetof(VectorCall, positions)]);
  point_at_position(rbp);
  const int last = p_.pre_count + p_.post_count;
  load_streams(p_.pre_count, last, tail, false);
  store(compute(p_.pre_count, last, tail), tail, false);
}

/// Partials that no position reached are +0, and adding +0 to a sum that began at +0 changes nothing: they are left out.
void VectorWriter::fold_partials() {
  for (int half = partials_ / 2; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) {
      vmovaps(vec(12), ptr[rsp + partials_at() + bytes_ * i]);
      vaddps(vec(12), vec(12), ptr[rsp + partials_at() + bytes_ * (i + half)]);
      vmovaps(ptr[rsp + partials_at() + bytes_ * i], vec(12));
    }
  }
  vmovaps(vec(11), ptr[rsp + partials_at()]);
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
    if (const VectorFunction f = kernels_.vector_function(m.op)) call_function(f, i, last, tail);
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
