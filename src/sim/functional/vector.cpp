// VX: runs a micro-program over chunks of the innermost kept loop. Streams become rows of fp32, each operation is a
// loop over a row; every operation equals isa::micro_value element by element.
#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "isa/micro_value.h"
#include "numerics/formats.h"
#include "numerics/requantize.h"
#include "sim/functional/executor.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SYSTOLE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SYSTOLE_CLONES
#endif

namespace systole {
namespace {

using isa::Micro;
using isa::StreamType;

constexpr int64_t kChunk = 256;

/// Reads n elements `stride` bytes apart, converted to fp32.
SYSTOLE_CLONES void gather_dense_u8(float* out, const uint8_t* from, int64_t n, int zero) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(from[i] - zero);
}
SYSTOLE_CLONES void gather_dense_i8(float* out, const uint8_t* from, int64_t n, int zero) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int8_t>(from[i]) - zero);
}
SYSTOLE_CLONES void gather_dense_bf16(float* out, const uint8_t* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t v;
    std::memcpy(&v, from + 2 * i, 2);
    out[i] = bf16_to_f32(v);
  }
}
SYSTOLE_CLONES void gather_dense_i32(float* out, const uint8_t* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    int32_t v;
    std::memcpy(&v, from + 4 * i, 4);
    out[i] = static_cast<float>(v);
  }
}

float element(StreamType type, const uint8_t* at, int zero) {
  switch (type) {
    case StreamType::kF32: { float v; std::memcpy(&v, at, 4); return v; }
    case StreamType::kI32: { int32_t v; std::memcpy(&v, at, 4); return static_cast<float>(v); }
    case StreamType::kI8: return static_cast<float>(static_cast<int8_t>(*at) - zero);
    case StreamType::kU8: return static_cast<float>(*at - zero);
    case StreamType::kBF16: return decode_float(DType::kBF16, at);
    case StreamType::kF16: return decode_float(DType::kF16, at);
    case StreamType::kF8E4M3: return decode_float(DType::kF8E4M3, at);
    case StreamType::kF8E5M2: return decode_float(DType::kF8E5M2, at);
    case StreamType::kF8E4M3FNUZ: return decode_float(DType::kF8E4M3FNUZ, at);
    case StreamType::kF8E5M2FNUZ: return decode_float(DType::kF8E5M2FNUZ, at);
    case StreamType::kF8E8M0: return decode_float(DType::kF8E8M0, at);
    case StreamType::kF4E2M1: return decode_float(DType::kF4E2M1, at);
    case StreamType::kI16: { int16_t v; std::memcpy(&v, at, 2); return static_cast<float>(v - zero); }
    case StreamType::kU16: { uint16_t v; std::memcpy(&v, at, 2); return static_cast<float>(v - zero); }
    case StreamType::kNone: break;
  }
  return 0;
}

void gather(float* out, StreamType type, const uint8_t* from, int64_t stride, int64_t n, int zero) {
  if (stride == 0) {
    std::fill_n(out, n, element(type, from, zero));
  } else if (type == StreamType::kF32 && stride == 4) {
    std::memcpy(out, from, static_cast<size_t>(4 * n));
  } else if (type == StreamType::kU8 && stride == 1) {
    gather_dense_u8(out, from, n, zero);
  } else if (type == StreamType::kI8 && stride == 1) {
    gather_dense_i8(out, from, n, zero);
  } else if (type == StreamType::kBF16 && stride == 2) {
    gather_dense_bf16(out, from, n);
  } else if (type == StreamType::kI32 && stride == 4) {
    gather_dense_i32(out, from, n);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = element(type, from + i * stride, zero);
  }
}

SYSTOLE_CLONES void scatter_dense_8(uint8_t* to, const float* v, int64_t n, int zero, int lo, int hi) {
  for (int64_t i = 0; i < n; ++i) {
    float x = v[i] > -1e6f ? v[i] : -1e6f;  // NaN and -Inf give lo
    x = x < 1e6f ? x : 1e6f;
    const int q = static_cast<int>(std::nearbyint(x)) + zero;
    to[i] = static_cast<uint8_t>(q < lo ? lo : q > hi ? hi : q);
  }
}
SYSTOLE_CLONES void scatter_dense_bf16(uint8_t* to, const float* v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t q = f32_to_bf16(v[i]);
    std::memcpy(to + 2 * i, &q, 2);
  }
}
SYSTOLE_CLONES void scatter_dense_f32(uint8_t* to, const float* v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = canonical(v[i]);
    std::memcpy(to + 4 * i, &x, 4);
  }
}

void scatter(uint8_t* to, StreamType type, int64_t stride, const float* v, int64_t n, const isa::VectorProgram& p) {
  const bool eight = type == StreamType::kU8 || type == StreamType::kI8;
  if (eight && stride == 1) return scatter_dense_8(to, v, n, p.out_zero, p.out_lo, p.out_hi);
  if (type == StreamType::kBF16 && stride == 2) return scatter_dense_bf16(to, v, n);
  if (type == StreamType::kF32 && stride == 4) return scatter_dense_f32(to, v, n);
  for (int64_t i = 0; i < n; ++i) {
    uint8_t* at = to + i * stride;
    switch (type) {
      case StreamType::kF32: { const float x = canonical(v[i]); std::memcpy(at, &x, 4); break; }
      case StreamType::kI32: { const int32_t x = truncate_to_int32(v[i]); std::memcpy(at, &x, 4); break; }
      case StreamType::kI8: case StreamType::kU8: *at = static_cast<uint8_t>(quantize(v[i], p.out_zero, p.out_lo, p.out_hi)); break;
      case StreamType::kBF16: encode_float(DType::kBF16, v[i], at); break;
      case StreamType::kF16: encode_float(DType::kF16, v[i], at); break;
      case StreamType::kF8E4M3: encode_float(DType::kF8E4M3, v[i], at); break;
      case StreamType::kF8E5M2: encode_float(DType::kF8E5M2, v[i], at); break;
      case StreamType::kF8E4M3FNUZ: encode_float(DType::kF8E4M3FNUZ, v[i], at); break;
      case StreamType::kF8E5M2FNUZ: encode_float(DType::kF8E5M2FNUZ, v[i], at); break;
      case StreamType::kF8E8M0: encode_float(DType::kF8E8M0, v[i], at); break;
      case StreamType::kF4E2M1: encode_float(DType::kF4E2M1, v[i], at); break;
      case StreamType::kI16: case StreamType::kU16: { const uint16_t x = static_cast<uint16_t>(quantize(v[i], 0, type == StreamType::kI16 ? -32768 : 0, type == StreamType::kI16 ? 32767 : 65535)); std::memcpy(at, &x, 2); break; }
      case StreamType::kNone: break;
    }
  }
}

SYSTOLE_CLONES void apply(Micro op, float* d, const float* a, const float* b, const float* c, int64_t n) {
  switch (op) {
    case Micro::kMove: std::memmove(d, a, static_cast<size_t>(4 * n)); return;
    case Micro::kAdd: for (int64_t i = 0; i < n; ++i) d[i] = a[i] + b[i]; return;
    case Micro::kSub: for (int64_t i = 0; i < n; ++i) d[i] = a[i] - b[i]; return;
    case Micro::kMul: for (int64_t i = 0; i < n; ++i) d[i] = a[i] * b[i]; return;
    case Micro::kFma: for (int64_t i = 0; i < n; ++i) d[i] = std::fma(a[i], b[i], c[i]); return;
    case Micro::kMax: for (int64_t i = 0; i < n; ++i) d[i] = maximum(a[i], b[i]); return;
    case Micro::kMin: for (int64_t i = 0; i < n; ++i) d[i] = minimum(a[i], b[i]); return;
    case Micro::kRelu: for (int64_t i = 0; i < n; ++i) d[i] = a[i] < 0 ? 0.0f : a[i]; return;
    case Micro::kLess: for (int64_t i = 0; i < n; ++i) d[i] = a[i] < b[i] ? 1.0f : 0.0f; return;
    case Micro::kSelect: for (int64_t i = 0; i < n; ++i) d[i] = a[i] != 0 ? b[i] : c[i]; return;
    default: for (int64_t i = 0; i < n; ++i) d[i] = isa::micro_value(op, a[i], b[i], c[i]);
  }
}

SYSTOLE_CLONES void accumulate(float* partial, const float* v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) partial[i] += v[i];
}

class Runner {
 public:
  Runner(Memory& memory, const isa::VectorOp& op) : memory_(memory), op_(op), d_(*op.desc), p_(*op.program), strides_{&d_.strides0, &d_.strides1, &d_.strides2, &d_.out_strides} {
    for (size_t i = 0; i < isa::kMicroConstants; ++i) std::fill_n(constant_[i], kChunk, p_.constants[i]);
    kept_ = isa::kVectorDims - d_.reduced;
    inner_ = kept_ - 1;
    zero_ = std::vector<float>(kChunk, 0.0f);
    if (d_.reduced > 0 && p_.reduce == isa::Reduce::kSum) partial_.resize(static_cast<size_t>(isa::kVectorDims ? kSumPartials * kChunk : 0)), total_.resize(kChunk);
  }

  /// Outer positions [begin, end) of the kept loops without the innermost.
  void run(int64_t begin, int64_t end) {
    std::array<int64_t, isa::kVectorDims> index{};
    for (int64_t i = begin; i < end; ++i) {
      int64_t rest = i;
      for (int k = inner_; k-- > 0;) index[static_cast<size_t>(k)] = rest % d_.extents[static_cast<size_t>(k)], rest /= d_.extents[static_cast<size_t>(k)];
      const int64_t extent = inner_ >= 0 ? d_.extents[static_cast<size_t>(inner_)] : 1;
      for (int64_t at = 0; at < extent; at += kChunk) chunk(index, at, std::min(kChunk, extent - at));
    }
  }

 private:
  using Index = std::array<int64_t, isa::kVectorDims>;

  void chunk(Index& index, int64_t at, int64_t n) {
    if (inner_ >= 0) index[static_cast<size_t>(inner_)] = at;
    const float* value = nullptr;
    if (d_.reduced == 0) {
      read(index, n);
      value = compute(0, p_.pre_count + p_.post_count, n, nullptr);
    } else {
      value = reduce(index, n);
    }
    int64_t to = static_cast<int64_t>(op_.addresses[isa::kVectorInputs]);
    for (int k = 0; k < kept_; ++k) to += index[static_cast<size_t>(k)] * d_.out_strides[static_cast<size_t>(k)];
    scatter(memory_.bytes(op_.spaces[isa::kVectorInputs]) + to, d_.types[isa::kVectorInputs], inner_ >= 0 ? d_.out_strides[static_cast<size_t>(inner_)] : 0, value, n, p_);
  }

  const float* reduce(Index& index, int64_t n) {
    for (int k = kept_; k < isa::kVectorDims; ++k) index[static_cast<size_t>(k)] = 0;
    const bool sum = p_.reduce == isa::Reduce::kSum;
    if (sum) std::fill(partial_.begin(), partial_.end(), 0.0f);
    else std::fill_n(extreme_, n, p_.reduce == isa::Reduce::kMax ? -INFINITY : INFINITY);
    int64_t count = 0, in_block = 0;
    bool first = true;
    for (bool more = true; more; ++count) {
      read(index, n);
      const float* v = compute(0, p_.pre_count, n, nullptr);
      if (sum) {
        if (in_block == kSumBlock) close_block(n, first), first = false, in_block = 0;
        accumulate(partial_.data() + in_block++ % kSumPartials * kChunk, v, n);
      } else {
        apply(p_.reduce == isa::Reduce::kMax ? Micro::kMax : Micro::kMin, extreme_, extreme_, v, v, n);
      }
      more = false;
      for (int k = isa::kVectorDims; k-- > kept_;) {
        if (++index[static_cast<size_t>(k)] < d_.extents[static_cast<size_t>(k)]) {
          more = true;
          break;
        }
        index[static_cast<size_t>(k)] = 0;
      }
    }
    if (sum) {
      close_block(n, first);
      for (int64_t i = 0; i < n; ++i) extreme_[i] = canonical(total_[static_cast<size_t>(i)]);
    }
    if (p_.post_count == 0) return extreme_;
    for (int k = kept_; k < isa::kVectorDims; ++k) index[static_cast<size_t>(k)] = 0;
    read(index, n);
    return compute(p_.pre_count, p_.pre_count + p_.post_count, n, extreme_);
  }

  /// Folds the 64 partials by halves and adds the block to the total (numerics/reduce.h).
  void close_block(int64_t n, bool first) {
    for (int half = kSumPartials / 2; half >= 1; half /= 2) {
      for (int i = 0; i < half; ++i) accumulate(partial_.data() + i * kChunk, partial_.data() + (i + half) * kChunk, n);
    }
    for (int64_t i = 0; i < n; ++i) total_[static_cast<size_t>(i)] = first ? partial_[static_cast<size_t>(i)] : total_[static_cast<size_t>(i)] + partial_[static_cast<size_t>(i)];
    std::fill(partial_.begin(), partial_.end(), 0.0f);
  }

  void read(const Index& index, int64_t n) {
    for (size_t s = 0; s < isa::kVectorInputs; ++s) {
      if (d_.types[s] == StreamType::kNone) continue;
      int64_t at = static_cast<int64_t>(op_.addresses[s]);
      for (size_t k = 0; k < isa::kVectorDims; ++k) at += index[k] * (*strides_[s])[k];
      const int64_t stride = inner_ >= 0 ? (*strides_[s])[static_cast<size_t>(inner_)] : 0;
      const uint8_t* from = memory_.bytes(op_.spaces[s]);
      if (s == 0 && d_.guard_h_limit) read_guarded(index, from, at, stride, n);
      else gather(stream_[s], d_.types[s], from + at, stride, n, p_.in_zero[s]);
    }
  }

  void read_guarded(const Index& index, const uint8_t* from, int64_t at, int64_t stride, int64_t n) {
    int64_t h = op_.guard_h_origin, w = op_.guard_w_origin;
    for (size_t k = 0; k < isa::kVectorDims; ++k) h += index[k] * d_.guard_h[k], w += index[k] * d_.guard_w[k];
    const int64_t step_h = inner_ >= 0 ? d_.guard_h[static_cast<size_t>(inner_)] : 0, step_w = inner_ >= 0 ? d_.guard_w[static_cast<size_t>(inner_)] : 0;
    auto inside = [&](int64_t r, int64_t c) { return r >= 0 && r < d_.guard_h_limit && c >= 0 && c < d_.guard_w_limit; };
    if (step_h == 0 && step_w == 0) {
      if (inside(h, w)) gather(stream_[0], d_.types[0], from + at + h * d_.guard_h_pitch + w * d_.guard_w_pitch, stride, n, p_.in_zero[0]);
      else std::fill_n(stream_[0], n, p_.fill);
      return;
    }
    for (int64_t i = 0; i < n; ++i, h += step_h, w += step_w, at += stride) {
      stream_[0][i] = inside(h, w) ? element(d_.types[0], from + at + h * d_.guard_h_pitch + w * d_.guard_w_pitch, p_.in_zero[0]) : p_.fill;
    }
  }

  const float* operand(uint8_t o, const float* reduced) const {
    if (o < isa::kOperandStream) return register_[o];
    if (o < isa::kOperandReduced) return stream_[o - isa::kOperandStream];
    if (o == isa::kOperandReduced) return reduced ? reduced : zero_.data();
    return o >= isa::kOperandConstant && o < isa::kOperandConstant + isa::kMicroConstants ? constant_[o - isa::kOperandConstant] : zero_.data();
  }

  const float* compute(int begin, int end, int64_t n, const float* reduced) {
    const float* result = stream_[0];
    for (int i = begin; i < end; ++i) {
      const isa::MicroOp& m = p_.ops[static_cast<size_t>(i)];
      apply(m.op, register_[m.dst], operand(m.a, reduced), operand(m.b, reduced), operand(m.c, reduced), n);
      result = register_[m.dst];
    }
    return result;
  }

  Memory& memory_;
  const isa::VectorOp& op_;
  const isa::VectorDesc& d_;
  const isa::VectorProgram& p_;
  const std::array<int32_t, isa::kVectorDims>* strides_[4];
  int kept_, inner_;
  float stream_[isa::kVectorInputs][kChunk], register_[8][kChunk] = {}, constant_[isa::kMicroConstants][kChunk], extreme_[kChunk];
  std::vector<float> partial_, total_, zero_;
};

}  // namespace

int64_t vector_positions(const isa::VectorOp& op) {
  int64_t n = 1;
  for (uint32_t e : op.desc->extents) {
    if (e == 0) return 0;
  }
  for (int k = 0; k < isa::kVectorDims - op.desc->reduced - 1; ++k) n *= op.desc->extents[static_cast<size_t>(k)];
  return n;
}

void execute_vector_positions(Memory& memory, const isa::VectorOp& op, int64_t begin, int64_t end) { Runner(memory, op).run(begin, end); }

void execute_vector(Memory& memory, const isa::VectorOp& op) {
  const int64_t outer = vector_positions(op);
  if (outer == 0) return;
  int64_t elements = 1;
  for (uint32_t e : op.desc->extents) elements *= e;
  parallel_for(outer, std::max<int64_t>(1, outer * 16384 / elements), [&](int64_t begin, int64_t end) { execute_vector_positions(memory, op, begin, end); });
}

}  // namespace systole
