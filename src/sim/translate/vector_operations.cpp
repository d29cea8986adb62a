#include "sim/translate/vector_writer.h"

#include <array>
#include <cmath>

#ifdef SYSTOLE_HAS_AVX512
#include "numerics/formats.h"

namespace systole {
namespace {

using isa::Micro;
using isa::StreamType;

constexpr int kLessThan = 17, kLessOrEqual = 18, kEqual = 0, kNotLess = 21, kNotEqual = 4, kUnordered = 3, kGreater = 30;
constexpr uint32_t kSignBit = 0x80000000u, kMagnitude = 0x7FFFFFFFu;

/// What each code of an 8-bit float means.
const float* table_of(StreamType t) {
  static const auto tables = [] {
    std::array<std::array<float, 256>, 2> all;
    for (int i = 0; i < 256; ++i) {
      const auto code = static_cast<uint8_t>(i);
      all[0][static_cast<size_t>(i)] = decode_float(DType::kF8E4M3, &code), all[1][static_cast<size_t>(i)] = decode_float(DType::kF8E5M2, &code);
    }
    return all;
  }();
  return tables[t == StreamType::kF8E4M3 ? 0 : 1].data();
}
bool is_integer(StreamType t) { return t == StreamType::kI8 || t == StreamType::kU8 || t == StreamType::kI16 || t == StreamType::kU16; }

}  // namespace

Xbyak::Address VectorWriter::pooled(uint32_t bits) {
  auto& label = pool_[bits];
  if (!label) label = std::make_unique<Xbyak::Label>();
  return ptr[rip + *label];
}

Xbyak::Zmm VectorWriter::held(uint32_t bits, const Zmm& scratch) {
  static constexpr int kFree[] = {14, 15, 24, 25, 26, 27, 29, 30};  // where no reduction and no call uses them
  const auto found = held_.find(bits);
  if (again_ && found != held_.end()) return Zmm(found->second);
  if (!again_ && found == held_.end() && plan_.kind == VectorPlan::Kind::kMap && !calls_ && held_.size() < std::size(kFree)) {
    const int number = kFree[held_.size()];
    held_[bits] = number;
  }
  vpbroadcastd(scratch, pooled(bits));
  return scratch;
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
  const Zmm to(8 + static_cast<int>(stream));
  const StreamType type = d_.types[stream];
  const bool may_be_outside = stream == 0 && d_.guard_h_limit != 0;
  Xbyak::Label outside, done;
  if (may_be_outside) {
    test(base, base);
    jz(outside, T_NEAR);
  }
  if (scalar || plan_.lanes.strides[stream] == 0) load_scalar(type, to, base);
  else load_lanes(type, to, ptr[base + r15 * isa::bytes_of(type)], tail);
  const int zero = p_.in_zero[stream];
  if (is_integer(type)) {
    if (zero != 0) {
      vpsubd(to, to, held(static_cast<uint32_t>(zero), zmm12));
    }
    vcvtdq2ps(to, to);
  }
  if (may_be_outside) {
    jmp(done, T_NEAR);
    L(outside);
    broadcast(to, p_.fill);
    L(done);
  }
}

void VectorWriter::load_lanes(StreamType type, const Zmm& to, const Address& from, bool tail) {
  const Zmm z = tail ? to | k1 | T_z : to;
  switch (type) {
    case StreamType::kF32: vmovups(z, from); break;
    case StreamType::kI32: vcvtdq2ps(z, from); break;
    case StreamType::kBF16:
      vpmovzxwd(z, from);
      vpslld(to, to, 16);
      break;
    case StreamType::kF16: vcvtph2ps(z, from); break;
    case StreamType::kF8E4M3:
    case StreamType::kF8E5M2:
      vpmovzxbd(z, from);
      mov(rcx, reinterpret_cast<uint64_t>(table_of(type)));
      kxnorw(k2, k2, k2);
      vgatherdps(zmm12 | k2, ptr[rcx + to * 4]);
      vmovaps(to, zmm12);
      break;
    case StreamType::kI8: vpmovsxbd(z, from); break;
    case StreamType::kU8: vpmovzxbd(z, from); break;
    case StreamType::kI16: vpmovsxwd(z, from); break;
    default: vpmovzxwd(z, from); break;
  }
}

void VectorWriter::load_scalar(StreamType type, const Zmm& to, const Reg64& from) {
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
  vpbroadcastd(to, eax);
}

/// The register of an operand; constants are loaded on use where calls keep none in registers.
Xbyak::Zmm VectorWriter::operand(uint8_t number) {
  if (number < isa::kOperandReduced) return Zmm(number);
  if (number == isa::kOperandReduced && p_.reduce != isa::Reduce::kNone) return zmm11;
  if (number >= isa::kOperandConstant && number < isa::kOperandConstant + isa::kMicroConstants) {
    const Zmm r(number);
    if (calls_) broadcast(r, p_.constants[number - static_cast<size_t>(isa::kOperandConstant)]);
    return r;
  }
  vxorps(zmm31, zmm31, zmm31);
  return zmm31;
}

Xbyak::Zmm VectorWriter::compute(int first, int last, bool tail) {
  if (first == last) return zmm8;
  for (int i = first; i < last; ++i) {
    const isa::MicroOp& m = p_.ops[static_cast<size_t>(i)];
    if (const VectorFunction f = vector_function(m.op)) call_function(f, i, last, tail);
    else operation(m);
  }
  return Zmm(p_.ops[static_cast<size_t>(last - 1)].dst);
}

void VectorWriter::operation(const isa::MicroOp& m) {
  const int operands = isa::micro_info(m.op).operands;
  const Zmm d(m.dst), a = operand(m.a), b = operands > 1 ? operand(m.b) : a, c = operands > 2 ? operand(m.c) : a;
  switch (m.op) {
    case Micro::kMove: vmovaps(d, a); break;
    case Micro::kAdd: vaddps(d, a, b); break;
    case Micro::kSub: vsubps(d, a, b); break;
    case Micro::kMul: vmulps(d, a, b); break;
    case Micro::kFma:
      vmovaps(zmm12, a);
      vfmadd213ps(zmm12, b, c);
      vmovaps(d, zmm12);
      break;
    case Micro::kMax: case Micro::kMin: extreme(m.op == Micro::kMax, d, a, b); break;
    case Micro::kAbs:
      vandps(d, a, held(kMagnitude, zmm12));
      break;
    case Micro::kNeg:
      vxorps(d, a, held(kSignBit, zmm12));
      break;
    case Micro::kFloor: vrndscaleps(d, a, 9); break;
    case Micro::kCeil: vrndscaleps(d, a, 10); break;
    case Micro::kRound: vrndscaleps(d, a, 8); break;
    case Micro::kRelu:
      vxorps(zmm12, zmm12, zmm12);
      vcmpps(k2, a, zmm12, kNotLess);
      vmovaps(d | k2 | T_z, a);
      break;
    case Micro::kLess: compare_to_one(d, a, b, kLessThan); break;
    case Micro::kLessEqual: compare_to_one(d, a, b, kLessOrEqual); break;
    case Micro::kEqual: compare_to_one(d, a, b, kEqual); break;
    case Micro::kSelect:
      vxorps(zmm12, zmm12, zmm12);
      vcmpps(k2, a, zmm12, kNotEqual);
      vblendmps(d | k2, c, b);
      break;
    default:  // kSign
      vxorps(zmm12, zmm12, zmm12);
      vcmpps(k2, a, zmm12, kGreater);
      vcmpps(k3, a, zmm12, kLessThan);
      vmovaps(d, a);
      vbroadcastss(d | k2, pooled(1.0f));
      vbroadcastss(d | k3, pooled(-1.0f));
  }
}

void VectorWriter::compare_to_one(const Zmm& to, const Zmm& a, const Zmm& b, int predicate) {
  vcmpps(k2, a, b, static_cast<uint8_t>(predicate));
  vbroadcastss(to | k2 | T_z, pooled(1.0f));
}

/// numerics/reduce.h, maximum and minimum: NaN wins, zeros by sign.
void VectorWriter::extreme(bool greatest, const Zmm& to, const Zmm& a, const Zmm& b) {
  vcmpps(k2, a, b, kUnordered);
  vrangeps(zmm13, a, b, greatest ? 5 : 4);
  vbroadcastss(zmm13 | k2, pooled(kCanonicalNaN));
  vmovaps(to, zmm13);
}

void VectorWriter::call_function(VectorFunction f, int at, int last, bool tail) {
  const isa::MicroOp& m = p_.ops[static_cast<size_t>(at)];
  const int operands = isa::micro_info(m.op).operands;
  auto kept = [&](int r) { return r != m.dst && live_after(at, last, static_cast<uint8_t>(r)); };
  const Zmm a = operand(m.a), b = operands > 1 ? operand(m.b) : a;
  for (int r = 0; r <= isa::kOperandReduced; ++r) {
    if (kept(r)) vmovaps(ptr[rsp + 64 * r], Zmm(r));
  }
  vmovaps(zmm28, b);
  vmovaps(zmm0, a);
  vmovaps(zmm1, zmm28);
  mov(rax, reinterpret_cast<uint64_t>(f));
  call(rax);
  if (m.dst != 0) vmovaps(Zmm(m.dst), zmm0);
  for (int r = 0; r <= isa::kOperandReduced; ++r) {
    if (kept(r)) vmovaps(Zmm(r), ptr[rsp + 64 * r]);
  }
  if (tail) set_mask(mask_);
}

void VectorWriter::store(const Zmm& v, bool tail, bool scalar) {
  const StreamType type = d_.types[isa::kVectorInputs];
  const int bytes = isa::bytes_of(type);
  Address to = scalar ? ptr[r14] : ptr[r14 + r15 * bytes];
  if (tail) to = to | k1;
  auto canonical_in = [&](const Zmm& r) {
    vcmpps(k2, v, v, kUnordered);
    vmovaps(r, v);
    vbroadcastss(r | k2, pooled(kCanonicalNaN));
  };
  switch (type) {
    case StreamType::kF32:
      canonical_in(zmm12);
      vmovups(to, zmm12);
      break;
    case StreamType::kF16:
      canonical_in(zmm12);
      vcvtps2ph(to, zmm12, 0);
      break;
    case StreamType::kBF16:  // numerics/formats.h, f32_to_bf16
      vcmpps(k2, v, v, kUnordered);
      vpsrld(zmm12, v, 16);
      vpandd(zmm12, zmm12, held(1u, zmm13));
      vpaddd(zmm12, zmm12, v);
      vpaddd(zmm12, zmm12, held(0x7FFFu, zmm13));
      vpbroadcastd(zmm12 | k2, pooled(kCanonicalNaN));
      vpsrld(zmm12, zmm12, 16);
      vpmovdw(to, zmm12);
      break;
    case StreamType::kI32:  // numerics/requantize.h, truncate_to_int32: what the host's conversion does
      vcvttps2dq(zmm12, v);
      vmovups(to, zmm12);
      break;
    case StreamType::kF8E4M3:
    case StreamType::kF8E5M2: store_eight_bit_float(v, to, type == StreamType::kF8E4M3); break;
    case StreamType::kI16: store_integer(v, to, -32768, 32767, 0, 2); break;
    case StreamType::kU16: store_integer(v, to, 0, 65535, 0, 2); break;
    default: store_integer(v, to, p_.out_lo, p_.out_hi, p_.out_zero, 1); break;
  }
}

/// numerics/formats.cpp, narrow: rounding carries into the exponent by itself; below the least exponent, units of the last place.
void VectorWriter::store_eight_bit_float(const Zmm& v, const Address& to, bool e4m3) {
  const int mantissa = e4m3 ? 3 : 2, lowest = e4m3 ? -6 : -14, shift = 23 - mantissa;
  const uint32_t nan = e4m3 ? 0x7F : 0x7E, overflow = e4m3 ? 0x7F : 0x7C;
  vpsrld(zmm12, v, static_cast<uint8_t>(shift));
  vpandd(zmm12, zmm12, held(1u, zmm13));
  vpandd(zmm28, v, held(kMagnitude, zmm13));
  vpaddd(zmm12, zmm12, zmm28);
  vpaddd(zmm12, zmm12, held((1u << (shift - 1)) - 1, zmm13));
  vpsrld(zmm12, zmm12, static_cast<uint8_t>(shift));
  vpsubd(zmm12, zmm12, held(static_cast<uint32_t>(126 + lowest) << mantissa, zmm13));
  vpcmpgtd(k2, zmm12, held(overflow - 1, zmm13));
  vpbroadcastd(zmm12 | k2, pooled(overflow));
  vcmpps(k2, zmm28, held(std::ldexp(1.0f, lowest), zmm13), kLessThan);
  vmulps(zmm28, zmm28, held(std::ldexp(1.0f, mantissa - lowest), zmm13));
  vcvtps2dq(zmm12 | k2, zmm28);
  vpsrld(zmm28, v, 24);
  vpandd(zmm28, zmm28, held(0x80u, zmm13));
  vpord(zmm12, zmm12, zmm28);
  vcmpps(k2, v, v, kUnordered);
  vpbroadcastd(zmm12 | k2, pooled(nan));
  vpmovdb(to, zmm12);
}

/// numerics/requantize.h, quantize: NaN and -Inf to the least value. A million is beyond any 16-bit range and its zero point.
void VectorWriter::store_integer(const Zmm& v, const Address& to, int lo, int hi, int zero, int bytes) {
  vmaxps(zmm12, v, held(-1e6f, zmm13));
  vminps(zmm12, zmm12, held(1e6f, zmm13));
  vcvtps2dq(zmm12, zmm12);
  if (zero != 0) vpaddd(zmm12, zmm12, held(static_cast<uint32_t>(zero), zmm13));
  vpmaxsd(zmm12, zmm12, held(static_cast<uint32_t>(lo), zmm13));
  vpminsd(zmm12, zmm12, held(static_cast<uint32_t>(hi), zmm13));
  bytes == 1 ? vpmovdb(to, zmm12) : vpmovdw(to, zmm12);
}

}  // namespace systole
#endif
