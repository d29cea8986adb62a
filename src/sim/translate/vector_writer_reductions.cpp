// The order of reductions (docs/numerics.md, "Reductions") in machine code: lanes along the reduced loop, or along a kept one.
#include "sim/translate/vector_writer.h"

#ifdef SYSTOLE_X86
#include <cmath>

#include "numerics/reduce.h"

namespace systole {
namespace {

using isa::Reduce;

constexpr int kPositionBytes = sizeof(VectorPointers);
float first_of(Reduce r) { return r == Reduce::kSum ? 0.0f : r == Reduce::kMax ? -INFINITY : INFINITY; }

}  // namespace

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
  mov(ptr[rsp + words + kBlockEndWord], rax);
  L(block);
  add(qword[rsp + words + kBlockEndWord], static_cast<uint32_t>(kSumBlock));
  start_running(0.0f);
  L(round);
  write_reduced_round();
  cmp(kLane, ptr[rsp + words + kBlockEndWord]);
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

}  // namespace systole
#endif
