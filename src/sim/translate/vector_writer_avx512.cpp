// Sixteen lanes of AVX-512: zmm16..23 hold the constants, zmm24..27 running reductions, k1 the lanes of a tail.
#include <array>
#include <cmath>

#include "sim/translate/vector_writer.h"
#include "sim/translate/vector_writer_parts.h"

#ifdef SYSTOLE_X86
#include "numerics/formats.h"

namespace systole {
namespace {

using isa::Micro;
using isa::Reduce;
using isa::StreamType;

class Avx512Writer final : public VectorWriter {
 public:
  Avx512Writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan) : VectorWriter(desc, program, plan, 16, avx512::kKernels) {}

 private:
  using Zmm = Xbyak::Zmm;

  Vec vec(int number) const override { return Zmm(number); }
  void load_constants() override;
  bool write_again() override;
  void write_pool_entry(uint64_t key) override { dd(static_cast<uint32_t>(key)); }
  void set_tail(uint32_t lanes) override;
  void restore_tail() override { set_tail(tail_); }
  Vec start_running(float first) override;
  void add_to_running(const Vec& v, int partial, bool tail) override;
  void take_running() override;
  void finish_running() override;
  void load_lanes(StreamType type, const Vec& to, const Reg64& base, bool tail) override;
  void subtract_zero(const Vec& v, int zero) override { vpsubd(v, v, held(static_cast<uint32_t>(zero), zmm12)); }
  void broadcast(const Vec& to, float v) override { vbroadcastss(to, pooled(v)); }
  void broadcast_eax(const Vec& to) override { vpbroadcastd(to, eax); }
  Vec operand(uint8_t number, int position) override;
  void extreme(bool greatest, const Vec& to, const Vec& a, const Vec& b) override;
  Vec spare() const override { return Zmm(28); }
  void special_operation(Micro op, const Vec& d, const Vec& a, const Vec& b, const Vec& c) override;
  void store(const Vec& v, bool tail, bool scalar) override;

  void compare_to_one(const Vec& to, const Vec& a, const Vec& b, int predicate);
  void store_eight_bit_float(const Vec& v, const Address& to, bool e4m3);
  void store_integer(const Vec& v, const Address& to, int lo, int hi, int zero, int bytes);
  /// The value in every lane of a register: one kept for it over all rows, else the scratch register, loaded here.
  Vec held(uint32_t bits, const Vec& scratch);
  Vec held(float v, const Vec& scratch) { return held(std::bit_cast<uint32_t>(v), scratch); }

  uint32_t tail_ = 16;            ///< lanes that k1 holds
  std::map<uint32_t, int> held_;  ///< register of a value, as found by a first writing
  bool again_ = false;            ///< this is the second writing
};

void Avx512Writer::load_constants() {
  for (int i = 0; i < isa::kMicroConstants && !calls_; ++i) {
    if (live_after(-1, p_.pre_count + p_.post_count, static_cast<uint8_t>(isa::kOperandConstant + i))) broadcast(Zmm(16 + i), p_.constants[static_cast<size_t>(i)]);
  }
  for (const auto& [bits, number] : again_ ? held_ : std::map<uint32_t, int>()) vpbroadcastd(Zmm(number), pooled(bits));
}

bool Avx512Writer::write_again() {
  if (held_.empty()) return false;  // else with the values it asked for in registers
  return again_ = true;
}

void Avx512Writer::set_tail(uint32_t lanes) {
  tail_ = lanes;
  mov(eax, (1u << lanes) - 1);
  kmovw(k1, eax);
}

Xbyak::Xmm Avx512Writer::start_running(float first) {
  for (int i = 0; i < 4; ++i) {
    broadcast(Zmm(24 + i), first);
    if (calls_) vmovaps(running_place(i), Zmm(24 + i));
  }
  return Zmm(24);
}

void Avx512Writer::add_to_running(const Vec& v, int partial, bool tail) {
  const Zmm running(24 + partial);
  const Address place = running_place(partial);
  if (calls_) vmovaps(running, place);
  if (p_.reduce == Reduce::kSum) {
    tail ? vaddps(running | k1, running, v) : vaddps(running, running, v);
  } else {
    extreme(p_.reduce == Reduce::kMax, zmm12, running, v);
    tail ? vmovaps(running | k1, zmm12) : vmovaps(running, zmm12);
  }
  if (calls_) vmovaps(place, running);
}

void Avx512Writer::take_running() { calls_ ? vmovaps(zmm11, running_place(0)) : vmovaps(zmm11, zmm24); }

void Avx512Writer::finish_running() {
  for (int i = 0; i < 4 && calls_; ++i) vmovaps(Zmm(24 + i), running_place(i));
  auto fold = [&](const Vec& to, const Vec& from) {
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

Xbyak::Xmm Avx512Writer::held(uint32_t bits, const Vec& scratch) {
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

void Avx512Writer::load_lanes(StreamType type, const Vec& to, const Reg64& base, bool tail) {
  const Address from = ptr[base + r15 * isa::bytes_of(type)];
  const Vec z = tail ? to | k1 | T_z : to;
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

/// The register of an operand; constants are loaded on use where calls keep none in registers.
Xbyak::Xmm Avx512Writer::operand(uint8_t number, int) {
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

void Avx512Writer::special_operation(Micro op, const Vec& d, const Vec& a, const Vec& b, const Vec& c) {
  switch (op) {
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

void Avx512Writer::compare_to_one(const Vec& to, const Vec& a, const Vec& b, int predicate) {
  vcmpps(k2, a, b, static_cast<uint8_t>(predicate));
  vbroadcastss(to | k2 | T_z, pooled(1.0f));
}

/// numerics/reduce.h, maximum and minimum: NaN wins, zeros by sign.
void Avx512Writer::extreme(bool greatest, const Vec& to, const Vec& a, const Vec& b) {
  vcmpps(k2, a, b, kUnordered);
  vrangeps(zmm13, a, b, greatest ? 5 : 4);
  vbroadcastss(zmm13 | k2, pooled(kCanonicalNaN));
  vmovaps(to, zmm13);
}

void Avx512Writer::store(const Vec& v, bool tail, bool scalar) {
  const StreamType type = d_.types[isa::kVectorInputs];
  const int bytes = isa::bytes_of(type);
  Address to = scalar ? ptr[r14] : ptr[r14 + r15 * bytes];
  if (tail) to = to | k1;
  auto canonical_in = [&](const Vec& r) {
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
void Avx512Writer::store_eight_bit_float(const Vec& v, const Address& to, bool e4m3) {
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
void Avx512Writer::store_integer(const Vec& v, const Address& to, int lo, int hi, int zero, int bytes) {
  vmaxps(zmm12, v, held(-1e6f, zmm13));
  vminps(zmm12, zmm12, held(1e6f, zmm13));
  vcvtps2dq(zmm12, zmm12);
  if (zero != 0) vpaddd(zmm12, zmm12, held(static_cast<uint32_t>(zero), zmm13));
  vpmaxsd(zmm12, zmm12, held(static_cast<uint32_t>(lo), zmm13));
  vpminsd(zmm12, zmm12, held(static_cast<uint32_t>(hi), zmm13));
  bytes == 1 ? vpmovdb(to, zmm12) : vpmovdw(to, zmm12);
}

}  // namespace

std::unique_ptr<VectorWriter> avx512_writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan) { return std::make_unique<Avx512Writer>(desc, program, plan); }

}  // namespace systole
#endif
