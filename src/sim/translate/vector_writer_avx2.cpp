// Eight lanes of AVX2: ymm12 to 15 are scratch, of which 13, 14, 15 hold an operation's constants; constants and running reductions
// lie in memory. The lanes of a tail are known when the code is written: narrow elements move one by one, words under a mask.
#include <cmath>

#include "sim/translate/vector_writer.h"
#include "sim/translate/vector_writer_parts.h"

#ifdef SYSTOLE_X86
namespace systole {
namespace {

using isa::Micro;
using isa::Reduce;
using isa::StreamType;

constexpr uint64_t kMaskKey = uint64_t{1} << 32;  ///< pool entries above: that many lanes

class Avx2Writer final : public VectorWriter {
 public:
  Avx2Writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan) : VectorWriter(desc, program, plan, 8, avx2::kKernels) {}

 private:
  using Ymm = Xbyak::Ymm;

  Vec vec(int number) const override { return Ymm(number); }
  void load_constants() override {}
  void write_pool_entry(uint64_t key) override {
    for (uint32_t i = 0; i < 8; ++i) dd(key < kMaskKey ? static_cast<uint32_t>(key) : i < key - kMaskKey ? ~0u : 0u);
  }
  void set_tail(uint32_t lanes) override { tail_ = lanes; }
  Vec start_running(float first) override;
  void add_to_running(const Vec& v, int partial, bool tail) override;
  void take_running() override { vmovaps(ymm11, running_place(0)); }
  void finish_running() override;
  void load_lanes(StreamType type, const Vec& to, const Reg64& base, bool tail) override;
  void subtract_zero(const Vec& v, int zero) override { vpsubd(v, v, pooled(static_cast<uint32_t>(zero))); }
  void broadcast(const Vec& to, float v) override { vmovaps(to, pooled(v)); }
  void broadcast_eax(const Vec& to) override;
  Vec operand(uint8_t number, int position) override;
  void extreme(bool greatest, const Vec& to, const Vec& a, const Vec& b) override;
  Vec spare() const override { return Ymm(15); }
  void special_operation(Micro op, const Vec& d, const Vec& a, const Vec& b, const Vec& c) override;
  void store(const Vec& v, bool tail, bool scalar) override;

  /// The lanes of the tail as a mask.
  Address tail_mask();
  void load_elements(const Vec& to, const Reg64& base, int bytes, bool tail);
  void look_up(StreamType type, const Vec& codes);
  void fold(const Vec& a, const Vec& b);
  void round_to_bf16(const Vec& v);
  void round_to_eight_bit_float(const Vec& v, bool e4m3);
  void round_to_integer(const Vec& v, int lo, int hi, int zero);
  void canonical_of(const Vec& v);
  /// Stores the lanes of ymm12, as they are or narrowed to 16 or 8 bits, of which `is_signed` says how they saturate.
  void store_lanes(const Reg64& base, bool scalar, bool tail, int bytes, bool is_signed);

  uint32_t tail_ = 8;
};

Xbyak::Address Avx2Writer::tail_mask() {
  auto& label = pool_[kMaskKey + tail_];
  if (!label) label = std::make_unique<Xbyak::Label>();
  return ptr[rip + *label];
}

Xbyak::Xmm Avx2Writer::start_running(float first) {
  broadcast(ymm14, first);
  for (int i = 0; i < running_vectors(); ++i) vmovaps(running_place(i), ymm14);
  return ymm14;
}

/// ymm14 = ymm14 with b.
void Avx2Writer::fold(const Vec& a, const Vec& b) {
  if (p_.reduce == Reduce::kSum) vaddps(ymm14, a, b);
  else extreme(p_.reduce == Reduce::kMax, ymm14, a, b);
}

void Avx2Writer::add_to_running(const Vec& v, int partial, bool tail) {
  vmovaps(ymm14, running_place(partial));
  fold(ymm14, v);
  if (tail) {
    vmovaps(ymm13, tail_mask());
    vmaskmovps(running_place(partial), ymm13, ymm14);
  } else {
    vmovaps(running_place(partial), ymm14);
  }
}

void Avx2Writer::finish_running() {
  for (int half = running_vectors() / 2; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) {
      vmovaps(ymm14, running_place(i));
      vmovaps(ymm13, running_place(i + half));
      fold(ymm14, ymm13);
      if (half > 1) vmovaps(running_place(i), ymm14);
    }
  }
  vextractf128(xmm13, ymm14, 1);
  fold(ymm14, ymm13);
  for (int order : {0x4E, 0xB1}) {
    vpermilps(ymm13, ymm14, static_cast<uint8_t>(order));
    fold(ymm14, ymm13);
  }
  vbroadcastss(ymm11, xmm14);
}

/// Elements of `bytes` as they lie, to the low end of a register; lanes beyond a tail are zero.
void Avx2Writer::load_elements(const Vec& to, const Reg64& base, int bytes, bool tail) {
  const Xbyak::Xmm low(to.getIdx());
  const Xbyak::RegExp first = base + r15 * bytes;
  if (!tail) {
    if (bytes == 4) vmovups(to, ptr[first]);
    else if (bytes == 2) vmovdqu(low, ptr[first]);
    else vmovq(low, ptr[first]);
    return;
  }
  if (bytes == 4) {
    vmovaps(to, tail_mask());
    vmaskmovps(to, to, ptr[first]);
    return;
  }
  vpxor(low, low, low);
  for (uint32_t i = 0; i < tail_; ++i) {
    if (bytes == 2) vpinsrw(low, low, ptr[first + 2 * i], static_cast<uint8_t>(i));
    else vpinsrb(low, low, ptr[first + i], static_cast<uint8_t>(i));
  }
}

void Avx2Writer::look_up(StreamType type, const Vec& codes) {
  mov(rcx, reinterpret_cast<uint64_t>(table_of(type)));
  vpcmpeqd(ymm13, ymm13, ymm13);
  vgatherdps(ymm12, ptr[rcx + Ymm(codes.getIdx()) * 4], ymm13);
  vmovaps(codes, ymm12);
}

void Avx2Writer::load_lanes(StreamType type, const Vec& to, const Reg64& base, bool tail) {
  const Xbyak::Xmm low(to.getIdx());
  load_elements(to, base, isa::bytes_of(type), tail);
  switch (type) {
    case StreamType::kF32: break;
    case StreamType::kI32: vcvtdq2ps(to, to); break;
    case StreamType::kBF16:
      vpmovzxwd(to, low);
      vpslld(to, to, 16);
      break;
    case StreamType::kF16: vcvtph2ps(to, low); break;
    case StreamType::kF8E4M3:
    case StreamType::kF8E5M2:
      vpmovzxbd(to, low);
      look_up(type, to);
      break;
    case StreamType::kI8: vpmovsxbd(to, low); break;
    case StreamType::kU8: vpmovzxbd(to, low); break;
    case StreamType::kI16: vpmovsxwd(to, low); break;
    default: vpmovzxwd(to, low); break;
  }
}

void Avx2Writer::broadcast_eax(const Vec& to) {
  const Xbyak::Xmm low(to.getIdx());
  vmovd(low, eax);
  vpbroadcastd(to, low);
}

Xbyak::Xmm Avx2Writer::operand(uint8_t number, int position) {
  if (number < isa::kOperandReduced) return vec(number);
  if (number == isa::kOperandReduced && p_.reduce != Reduce::kNone) return ymm11;
  const Vec scratch = vec(13 + position);
  if (number >= isa::kOperandConstant && number < isa::kOperandConstant + isa::kMicroConstants) broadcast(scratch, p_.constants[number - static_cast<size_t>(isa::kOperandConstant)]);
  else vxorps(scratch, scratch, scratch);
  return scratch;
}

void Avx2Writer::special_operation(Micro op, const Vec& d, const Vec& a, const Vec& b, const Vec& c) {
  auto compare_to_one = [&](int predicate) {
    vcmpps(ymm12, a, b, static_cast<uint8_t>(predicate));
    vandps(d, ymm12, pooled(1.0f));
  };
  auto compare_to_zero = [&](const Vec& to, int predicate) {
    vxorps(to, to, to);
    vcmpps(to, a, to, static_cast<uint8_t>(predicate));
  };
  switch (op) {
    case Micro::kAbs: vandps(d, a, pooled(kMagnitude)); break;
    case Micro::kNeg: vxorps(d, a, pooled(kSignBit)); break;
    case Micro::kFloor: vroundps(d, a, 9); break;
    case Micro::kCeil: vroundps(d, a, 10); break;
    case Micro::kRound: vroundps(d, a, 8); break;
    case Micro::kRelu:
      compare_to_zero(ymm12, kNotLess);
      vandps(d, a, ymm12);
      break;
    case Micro::kLess: compare_to_one(kLessThan); break;
    case Micro::kLessEqual: compare_to_one(kLessOrEqual); break;
    case Micro::kEqual: compare_to_one(kEqual); break;
    case Micro::kSelect:
      compare_to_zero(ymm12, kNotEqual);
      vblendvps(d, c, b, ymm12);
      break;
    default:  // kSign
      compare_to_zero(ymm14, kGreater);
      compare_to_zero(ymm15, kLessThan);
      vmovaps(ymm12, pooled(1.0f));
      vblendvps(ymm12, a, ymm12, ymm14);
      vblendvps(d, ymm12, pooled(-1.0f), ymm15);
  }
}

/// numerics/reduce.h, maximum and minimum: NaN wins, zeros by sign. The instruction gives the second of equal numbers: both orders,
/// joined bit by bit, differ in the sign of zeros alone.
void Avx2Writer::extreme(bool greatest, const Vec& to, const Vec& a, const Vec& b) {
  if (greatest) {
    vmaxps(ymm12, a, b);
    vmaxps(ymm15, b, a);
    vandps(ymm12, ymm12, ymm15);
  } else {
    vminps(ymm12, a, b);
    vminps(ymm15, b, a);
    vorps(ymm12, ymm12, ymm15);
  }
  vcmpps(ymm15, a, b, kUnordered);
  vblendvps(to, ymm12, pooled(kCanonicalNaN), ymm15);
}

/// ymm12 = v, NaNs canonical.
void Avx2Writer::canonical_of(const Vec& v) {
  vcmpps(ymm13, v, v, kUnordered);
  vblendvps(ymm12, v, pooled(kCanonicalNaN), ymm13);
}

/// numerics/formats.h, f32_to_bf16.
void Avx2Writer::round_to_bf16(const Vec& v) {
  vpsrld(ymm12, v, 16);
  vpand(ymm12, ymm12, pooled(1u));
  vpaddd(ymm12, ymm12, v);
  vpaddd(ymm12, ymm12, pooled(0x7FFFu));
  vcmpps(ymm13, v, v, kUnordered);
  vblendvps(ymm12, ymm12, pooled(kCanonicalNaN), ymm13);
  vpsrld(ymm12, ymm12, 16);
}

/// numerics/formats.cpp, narrow: rounding carries into the exponent by itself; below the least exponent, units of the last place.
void Avx2Writer::round_to_eight_bit_float(const Vec& v, bool e4m3) {
  const int mantissa = e4m3 ? 3 : 2, lowest = e4m3 ? -6 : -14, shift = 23 - mantissa;
  const uint32_t nan = e4m3 ? 0x7F : 0x7E, overflow = e4m3 ? 0x7F : 0x7C;
  vpsrld(ymm12, v, static_cast<uint8_t>(shift));
  vpand(ymm12, ymm12, pooled(1u));
  vpand(ymm14, v, pooled(kMagnitude));
  vpaddd(ymm12, ymm12, ymm14);
  vpaddd(ymm12, ymm12, pooled((1u << (shift - 1)) - 1));
  vpsrld(ymm12, ymm12, static_cast<uint8_t>(shift));
  vpsubd(ymm12, ymm12, pooled(static_cast<uint32_t>(126 + lowest) << mantissa));
  vpcmpgtd(ymm13, ymm12, pooled(overflow - 1));
  vblendvps(ymm12, ymm12, pooled(overflow), ymm13);
  vcmpps(ymm13, ymm14, pooled(std::ldexp(1.0f, lowest)), kLessThan);
  vmulps(ymm14, ymm14, pooled(std::ldexp(1.0f, mantissa - lowest)));
  vcvtps2dq(ymm14, ymm14);
  vblendvps(ymm12, ymm12, ymm14, ymm13);
  vpsrld(ymm14, v, 24);
  vpand(ymm14, ymm14, pooled(0x80u));
  vpor(ymm12, ymm12, ymm14);
  vcmpps(ymm13, v, v, kUnordered);
  vblendvps(ymm12, ymm12, pooled(nan), ymm13);
}

/// numerics/requantize.h, quantize: NaN and -Inf to the least value. A million is beyond any 16-bit range and its zero point.
void Avx2Writer::round_to_integer(const Vec& v, int lo, int hi, int zero) {
  vmaxps(ymm12, v, pooled(-1e6f));
  vminps(ymm12, ymm12, pooled(1e6f));
  vcvtps2dq(ymm12, ymm12);
  if (zero != 0) vpaddd(ymm12, ymm12, pooled(static_cast<uint32_t>(zero)));
  vpmaxsd(ymm12, ymm12, pooled(static_cast<uint32_t>(lo)));
  vpminsd(ymm12, ymm12, pooled(static_cast<uint32_t>(hi)));
}

void Avx2Writer::store(const Vec& v, bool tail, bool scalar) {
  const StreamType type = d_.types[isa::kVectorInputs];
  bool is_signed = false;
  switch (type) {
    case StreamType::kF32: canonical_of(v); break;
    case StreamType::kF16:
      canonical_of(v);
      vcvtps2ph(xmm12, ymm12, 0);
      vpmovzxwd(ymm12, xmm12);
      break;
    case StreamType::kBF16: round_to_bf16(v); break;
    case StreamType::kI32: vcvttps2dq(ymm12, v); break;  // numerics/requantize.h, truncate_to_int32: what the host's conversion does
    case StreamType::kF8E4M3:
    case StreamType::kF8E5M2: round_to_eight_bit_float(v, type == StreamType::kF8E4M3); break;
    case StreamType::kI16: round_to_integer(v, -32768, 32767, 0), is_signed = true; break;
    case StreamType::kU16: round_to_integer(v, 0, 65535, 0); break;
    default: round_to_integer(v, p_.out_lo, p_.out_hi, p_.out_zero), is_signed = p_.out_lo < 0; break;
  }
  store_lanes(r14, scalar, tail, isa::bytes_of(type), is_signed);
}

void Avx2Writer::store_lanes(const Reg64& base, bool scalar, bool tail, int bytes, bool is_signed) {
  const Xbyak::RegExp first = scalar ? Xbyak::RegExp(base) : base + r15 * bytes;
  if (bytes == 4) {
    if (!tail) return vmovups(ptr[first], ymm12);
    vmovaps(ymm13, tail_mask());
    return vmaskmovps(ptr[first], ymm13, ymm12);
  }
  vextracti128(xmm13, ymm12, 1);
  is_signed ? vpackssdw(xmm12, xmm12, xmm13) : vpackusdw(xmm12, xmm12, xmm13);
  if (bytes == 1) is_signed ? vpacksswb(xmm12, xmm12, xmm12) : vpackuswb(xmm12, xmm12, xmm12);
  if (!tail) return bytes == 2 ? vmovdqu(ptr[first], xmm12) : vmovq(ptr[first], xmm12);
  for (uint32_t i = 0; i < tail_; ++i) {
    if (bytes == 2) vpextrw(ptr[first + 2 * i], xmm12, static_cast<uint8_t>(i));
    else vpextrb(ptr[first + i], xmm12, static_cast<uint8_t>(i));
  }
}

}  // namespace

std::unique_ptr<VectorWriter> avx2_writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan) { return std::make_unique<Avx2Writer>(desc, program, plan); }

}  // namespace systole
#endif
