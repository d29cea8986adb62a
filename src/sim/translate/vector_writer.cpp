#include "sim/translate/vector_writer.h"

#ifdef SYSTOLE_HAS_AVX512
#include <algorithm>
#include <cmath>

#include "numerics/reduce.h"

namespace systole {
namespace {

using isa::Reduce;

// The frame, in bytes from rsp: registers saved around calls, running reductions, partial sums, then words.
constexpr int kSavedAt = 0, kRunningAt = kSavedAt + 12 * 64, kPartialsAt = kRunningAt + 4 * 64, kWords = 64;
constexpr int kStackWord = 0, kCallWord = 8, kCountWord = 16, kPartialWord = 24;
constexpr int kPositionBytes = sizeof(VectorPointers);
const Xbyak::Reg64& kLane = Xbyak::util::r15;

int power_of_two_from(int64_t n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

}  // namespace

VectorWriter::VectorWriter(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan)
    : Xbyak::CodeGenerator(4096, Xbyak::AutoGrow), d_(desc), p_(program), plan_(plan) {
  for (int i = 0; i < p_.pre_count + p_.post_count; ++i) calls_ = calls_ || vector_function(p_.ops[static_cast<size_t>(i)].op);
  if (plan_.kind == VectorPlan::Kind::kLanesKept && p_.reduce == Reduce::kSum) partials_ = power_of_two_from(std::min<int64_t>(plan_.reduced_positions(), kSumPartials));
}

void VectorWriter::write() {
  write_body();
  if (!held_.empty()) {  // again, with the values it asked for in registers
    again_ = true;
    reset();
    pool_.clear();
    write_body();
  }
  for (auto& [bits, label] : pool_) {
    align(4);
    L(*label);
    dd(bits);
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
  const int words_at = kPartialsAt + 64 * partials_;
  sub(rsp, words_at + kWords);
  and_(rsp, -64);
  lea(rdx, ptr[rsp + words_at]);
  mov(ptr[rdx + kStackWord], rax);
  mov(ptr[rdx + kCallWord], rdi);
  point_at_position(rdi);
  mov(r14, ptr[rdi + offsetof(VectorCall, out)]);
  for (int i = 0; i < isa::kMicroConstants && !calls_; ++i) {
    if (live_after(-1, p_.pre_count + p_.post_count, static_cast<uint8_t>(isa::kOperandConstant + i))) broadcast(Zmm(16 + i), p_.constants[static_cast<size_t>(i)]);
  }
  for (const auto& [bits, number] : again_ ? held_ : std::map<uint32_t, int>()) vpbroadcastd(Zmm(number), pooled(bits));
}

void VectorWriter::leave() {
  mov(rsp, ptr[rsp + kPartialsAt + 64 * partials_ + kStackWord]);
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

void VectorWriter::set_mask(uint32_t lanes) {
  mask_ = lanes;
  mov(eax, lanes);
  kmovw(k1, eax);
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

/// The body on whole sixteens of the lanes, then on the rest under k1.
void VectorWriter::write_lanes(const std::function<void(bool tail)>& body) {
  const int64_t whole = plan_.lanes.extent / 16, tail = plan_.lanes.extent % 16;
  xor_(kLane, kLane);
  if (whole > 0) {
    Xbyak::Label next;
    L(next);
    body(false);
    add(kLane, 16);
    if (whole > 1) {
      cmp(kLane, static_cast<uint32_t>(whole * 16));
      jl(next, T_NEAR);
    }
  }
  if (tail > 0) {
    set_mask((1u << tail) - 1);
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

void VectorWriter::start_running() {
  const float first = p_.reduce == Reduce::kSum ? 0.0f : p_.reduce == Reduce::kMax ? -INFINITY : INFINITY;
  for (int i = 0; i < 4; ++i) {
    broadcast(Zmm(24 + i), first);
    if (calls_) vmovaps(ptr[rsp + kRunningAt + 64 * i], Zmm(24 + i));
  }
}

void VectorWriter::add_to_running(const Zmm& v, int partial, bool tail) {
  const Zmm running(24 + partial);
  const Address place = ptr[rsp + kRunningAt + 64 * partial];
  if (calls_) vmovaps(running, place);
  if (p_.reduce == Reduce::kSum) {
    tail ? vaddps(running | k1, running, v) : vaddps(running, running, v);
  } else {
    extreme(p_.reduce == Reduce::kMax, zmm12, running, v);
    tail ? vmovaps(running | k1, zmm12) : vmovaps(running, zmm12);
  }
  if (calls_) vmovaps(place, running);
}

/// Four vectors hold partials 0..63 of a sum (docs/numerics.md, "Reductions"): folded by halves into every lane of zmm11.
void VectorWriter::finish_running() {
  for (int i = 0; i < 4 && calls_; ++i) vmovaps(Zmm(24 + i), ptr[rsp + kRunningAt + 64 * i]);
  auto fold = [&](const Zmm& to, const Zmm& from) {
    if (p_.reduce == Reduce::kSum) vaddps(to, to, from);
    else extreme(p_.reduce == Reduce::kMax, to, to, from);
  };
  fold(zmm24, zmm26);
  fold(zmm25, zmm27);
  fold(zmm24, zmm25);
  vextractf32x8(ymm28, zmm24, 1);
  fold(zmm24, zmm28);
  vextractf32x4(xmm28, zmm24, 1);
  fold(zmm24, zmm28);
  vpermilps(zmm28, zmm24, 0x4E);
  fold(zmm24, zmm28);
  vpermilps(zmm28, zmm24, 0xB1);
  fold(zmm24, zmm28);
  vbroadcastss(zmm11, xmm24);
}

void VectorWriter::write_reduced_step(int partial, bool tail) {
  load_streams(0, p_.pre_count, tail, false);
  add_to_running(compute(0, p_.pre_count, tail), partial, tail);
}

void VectorWriter::write_reduced_row() {
  const int64_t n = plan_.lanes.extent, rounds = n / 64;
  start_running();
  hold_broadcast_streams(0, p_.pre_count);
  xor_(kLane, kLane);
  if (rounds > 0) {
    Xbyak::Label next;
    L(next);
    for (int i = 0; i < 4; ++i) {
      write_reduced_step(i, false);
      add(kLane, 16);
    }
    if (rounds > 1) {
      cmp(kLane, static_cast<uint32_t>(rounds * 64));
      jl(next, T_NEAR);
    }
  }
  const int rest = static_cast<int>(n % 64);
  for (int i = 0; i < rest / 16; ++i) {
    write_reduced_step(i, false);
    add(kLane, 16);
  }
  if (rest % 16 > 0) {
    set_mask((1u << (rest % 16)) - 1);
    write_reduced_step(rest / 16, true);
  }
  finish_running();
  set_mask(1);
  const int last = p_.pre_count + p_.post_count;
  for (bool& held : stream_held_) held = false;
  if (p_.post_count == 0) {
    store(zmm11, true, true);
  } else {
    load_streams(p_.pre_count, last, true, true);
    store(compute(p_.pre_count, last, true), true, true);
  }
}

/// One sixteen of the kept lanes over all reduced positions.
void VectorWriter::write_kept(bool tail) {
  const bool sum = p_.reduce == Reduce::kSum;
  const int words = kPartialsAt + 64 * partials_;
  start_running();
  for (int i = 0; i < partials_ && sum; ++i) vmovaps(ptr[rsp + kPartialsAt + 64 * i], zmm24);
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
  const Zmm v = compute(0, p_.pre_count, tail);
  if (sum) {
    mov(rax, ptr[rsp + words + kPartialWord]);
    vaddps(zmm12, v, ptr[rsp + rax + kPartialsAt]);
    vmovaps(ptr[rsp + rax + kPartialsAt], zmm12);
    add(rax, 64);
    and_(rax, 64 * partials_ - 1);
    mov(ptr[rsp + words + kPartialWord], rax);
  } else {
    add_to_running(v, 0, false);  // lanes beyond the tail hold something, and are never stored
  }
  add(rbp, kPositionBytes);
  dec(qword[rsp + words + kCountWord]);
  jnz(next, T_NEAR);
  if (sum) fold_partials();
  else calls_ ? vmovaps(zmm11, ptr[rsp + kRunningAt]) : vmovaps(zmm11, zmm24);
  if (p_.post_count == 0) return store(zmm11, tail, false);
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
      vmovaps(zmm12, ptr[rsp + kPartialsAt + 64 * i]);
      vaddps(zmm12, zmm12, ptr[rsp + kPartialsAt + 64 * (i + half)]);
      vmovaps(ptr[rsp + kPartialsAt + 64 * i], zmm12);
    }
  }
  vmovaps(zmm11, ptr[rsp + kPartialsAt]);
}

}  // namespace systole
#endif
