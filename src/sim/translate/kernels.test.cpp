// Random instructions on random memory: the translated kernel leaves the bytes that the interpreter leaves, whatever the
// instruction. Also by halves, as threads share them.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <span>

#include "isa/footprint.h"
#include "machine/cost.h"
#include "sim/translate/host.h"
#include "sim/translate/kernel.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/pair_products.h"
#include "sim/translate/vector_code.h"

namespace systole {
namespace {

constexpr int64_t kScratchpad = 96 * 1024, kDram = 16 * 1024, kAccumulators = 24 * 1024;

class RandomInstructions : public ::testing::Test {
 protected:
  RandomInstructions() : random_(std::getenv("SYSTOLE_SEED") ? std::strtoull(std::getenv("SYSTOLE_SEED"), nullptr, 10) : 1) {
    for (Memory* m : {&a_, &b_}) m->scratchpad = ZeroedMemory(kScratchpad), m->dram = ZeroedMemory(kDram), m->accumulators = ZeroedMemory(kAccumulators);
  }
  int64_t any(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random_); }
  bool once_in(int64_t n) { return any(1, n) == 1; }
  template <class T>
  T of(std::initializer_list<T> list) { return list.begin()[any(0, static_cast<int64_t>(list.size()) - 1)]; }

  /// Bytes whose bf16, fp16 and fp32 readings are mostly ordinary numbers, now and then zeros or anything.
  void fill() {
    for (auto [bytes, size] : {std::pair{a_.scratchpad.data(), kScratchpad}, std::pair{a_.dram.data(), kDram}}) {
      for (int64_t i = 0; i + 4 <= size; i += 4) {
        uint32_t v = static_cast<uint32_t>(random_());
        if (once_in(12)) v &= 0x80008000u;  // zeros of both signs
        else if (!once_in(50)) v = (v & 0x807F807Fu) | 0x3F003F00u | (v & 0x00800080u);
        std::memcpy(bytes + i, &v, 4);
      }
    }
    for (uint32_t& v : std::span(a_.sums(), kAccumulators / 4)) v = once_in(2) ? static_cast<uint32_t>(random_() % 60000) - 30000 : 0x3F800000u | static_cast<uint32_t>(random_() % 0x7FFFFF);
    for (ZeroedMemory Memory::*m : {&Memory::scratchpad, &Memory::accumulators, &Memory::dram}) std::memcpy((b_.*m).data(), (a_.*m).data(), (a_.*m).size());
  }

  bool fits(const std::vector<isa::Touch>& touches) const {
    for (const isa::Touch& t : touches) {
      const int64_t limit = t.space == isa::Space::kScratchpad ? kScratchpad : t.space == isa::Space::kDram ? kDram : kAccumulators;
      if (t.lo < 0 || t.hi > limit) return false;
    }
    return true;
  }
  void expect_same(const std::string& what) {
    ASSERT_EQ(std::memcmp(a_.accumulators.data(), b_.accumulators.data(), kAccumulators), 0) << what << ": accumulators differ";
    for (int64_t i = 0; i < kScratchpad; ++i) ASSERT_EQ(a_.scratchpad.data()[i], b_.scratchpad.data()[i]) << what << ": scratchpad differs at byte " << i;
    ASSERT_EQ(std::memcmp(a_.dram.data(), b_.dram.data(), kDram), 0) << what << ": DRAM differs";
  }
  /// An instruction's micro-program and shape, for failures.
  static std::string text_of(const isa::VectorOp& o) {
    std::string s = "types";
    for (auto t : o.desc->types) s += " " + std::to_string(static_cast<int>(t));
    s += "; extents";
    for (auto e : o.desc->extents) s += " " + std::to_string(e);
    s += "; reduced " + std::to_string(o.desc->reduced) + " by " + std::to_string(static_cast<int>(o.program->reduce)) + "; pre " + std::to_string(o.program->pre_count) + ", post " + std::to_string(o.program->post_count) + ":";
    for (int i = 0; i < o.program->pre_count + o.program->post_count; ++i) {
      const isa::MicroOp& m = o.program->ops[static_cast<size_t>(i)];
      s += std::string(" ") + isa::micro_info(m.op).name + ":" + std::to_string(m.dst) + ":" + std::to_string(m.a) + ":" + std::to_string(m.b) + ":" + std::to_string(m.c);
    }
    return s;
  }
  /// Whether an input's bytes meet the output's other than element on element: the ISA gives such an instruction no meaning.
  static bool meets_itself(const isa::VectorOp& o, const std::vector<isa::Touch>& touches) {
    const isa::Touch& out = touches.back();
    for (const isa::Touch& t : touches) {
      if (!t.write && t.space == out.space && t.lo < out.hi && out.lo < t.hi && !(t.lo == out.lo && t.hi == out.hi && o.desc->strides0 == o.desc->out_strides && o.desc->reduced == 0)) return true;
    }
    return false;
  }
  /// With the interpreter's kernels for any instruction set that this host has.
  void interpret(const std::function<void()>& execute) {
    const HostIsa best = host_isa();
    limit_host_isa(of({HostIsa::kScalar, HostIsa::kAvx2, HostIsa::kAvx512, HostIsa::kAvx512Bf16, HostIsa::kAmx}));
    execute();
    limit_host_isa(best);
  }
  static void run_by_halves(const Kernel& k) {
    const int64_t half = k.pieces() / 2;
    if (half > 0) k.run(0, half);
    k.run(half, k.pieces());
  }

  isa::MatrixDesc matrix_desc(int64_t columns) {
    isa::MatrixDesc d;
    d.format = static_cast<uint8_t>(any(0, 3));
    const int64_t element = operand_bytes(static_cast<MacFormat>(d.format));
    d.depthwise = once_in(4);
    d.a_signed = once_in(2), d.b_signed = !once_in(4);
    d.a_zero = static_cast<int16_t>(d.format ? 0 : d.a_signed ? any(-128, 127) : any(0, 255));
    d.b_zero = static_cast<int16_t>(d.format ? 0 : d.b_signed ? (once_in(8) ? any(-4, 4) : 0) : (once_in(2) ? 128 : any(0, 255)));
    d.kernel_h = static_cast<uint16_t>(any(1, 3)), d.kernel_w = static_cast<uint16_t>(once_in(6) ? any(5, 9) : any(1, 4));
    d.stride_h = static_cast<uint16_t>(any(1, 2)), d.stride_w = static_cast<uint16_t>(any(1, 2));
    d.dilation_h = static_cast<uint16_t>(once_in(4) ? 2 : 1), d.dilation_w = static_cast<uint16_t>(once_in(4) ? 2 : 1);
    d.multiplier = static_cast<uint8_t>(d.depthwise && once_in(4) ? 2 : 1);
    d.channels = static_cast<uint32_t>(once_in(2) ? any(1, 5) : any(1, 70));
    if (once_in(6)) d.channels = of({32u, 64u, 128u});  // whole steps of tiles
    d.in_columns = static_cast<uint32_t>(any(1, once_in(d.depthwise ? 2 : 6) ? 90 : 9) + (d.kernel_w > 4 ? 7 : 0));  // wide kernels, with pixels inside
    d.a_channel_pitch = static_cast<uint32_t>(once_in(6) ? element * 2 : element);
    d.a_pixel_pitch = static_cast<uint32_t>(d.channels * d.a_channel_pitch + (once_in(2) ? 0 : 16));
    d.a_row_pitch = d.a_pixel_pitch * d.in_columns;
    if (once_in(12)) (once_in(2) ? d.stride_h : d.stride_w) = 0;  // no compiler's, but a program's all the same
    if (once_in(40)) (once_in(2) ? d.dilation_h : d.dilation_w) = 0;
    if (once_in(40)) (once_in(2) ? d.a_pixel_pitch : d.a_row_pitch) = 0;
    if (once_in(100)) (once_in(2) ? d.kernel_h : d.kernel_w) = 0;
    if (once_in(100)) d.channels = 0;
    if (once_in(100)) (once_in(2) ? d.stride_w : d.dilation_w) = 65535;  // columns of padding, far more than memory
    d.b_column_pitch = static_cast<uint32_t>(once_in(5) ? element * 3 : element);
    d.b_row_pitch = static_cast<uint32_t>(columns * d.b_column_pitch);
    d.b_tile_pitch = static_cast<uint32_t>(d.b_row_pitch * d.kernel_h * d.kernel_w * (d.depthwise ? 1 : d.channels));
    return d;
  }
  isa::MatrixOp matrix_op(const isa::MatrixDesc& d) {
    isa::MatrixOp o{};
    o.desc = &d;
    o.init = of({isa::Init::kZero, isa::Init::kKeep, isa::Init::kBias});
    o.a = static_cast<uint64_t>(any(0, 64)), o.b = static_cast<uint64_t>(any(30000, 30100)), o.bias = static_cast<uint64_t>(any(0, 1000) * 4);
    o.acc = static_cast<uint32_t>(any(0, 64)), o.out_rows = static_cast<uint32_t>(any(1, 5)), o.out_columns = static_cast<uint32_t>(any(1, d.in_columns > 16 || once_in(5) ? 80 : 9));
    o.n = static_cast<uint32_t>(once_in(2) ? any(1, 20) : any(1, 100)), o.in_rows = static_cast<uint32_t>(any(1, 6));
    o.row_origin = static_cast<int32_t>(any(-2, 1)), o.column_origin = static_cast<int32_t>(any(-2, 1));
    return o;
  }

  isa::VectorDesc vector_desc();
  isa::VectorProgram vector_program(const isa::VectorDesc& d);
  isa::VectorOp vector_op(const isa::VectorDesc& d, const isa::VectorProgram& p);

  std::mt19937_64 random_;
  Memory a_, b_;
};

/// Kernels of every instruction set that this host has, on tile registers, on their emulation or without tiles. All paths are taken in turn.
void choose_kernels(int i, HostIsa best) {
  emulate_tiles(i % 3 == 1);
  assume_integers_beside_floats(i % 2 == 0);
  limit_host_isa(std::min(best, i / 2 % 4 == 1 ? HostIsa::kAvx2 : i / 2 % 4 == 2 ? HostIsa::kAvx512 : best));
  ASSERT_EQ(has_tile_kernels(), i % 3 == 1 || host_isa() == HostIsa::kAmx);
  ASSERT_EQ(has_pair_products(), kernel_isa() == KernelIsa::kAvx512 && host_isa() == HostIsa::kAvx512Bf16 && i % 3 != 1);
}

TEST_F(RandomInstructions, MatrixEqualsTheInterpreter) {
  if (!has_kernels()) GTEST_SKIP() << "this host has no AVX2";
  const HostIsa best = host_isa();
  const bool beside = integers_beside_floats();
  std::printf("  host: %s, tiles %s\n", to_string(best), has_tile_kernels() ? "in registers" : "emulated only");
  int translated = 0, too_large = 0;
  for (int i = 0; i < 9000; ++i) {
    if (i % 50 == 0) fill();
    choose_kernels(i, best);
    const int64_t columns = of({8, 16, 16, 32, 64});
    const isa::MatrixDesc d = matrix_desc(columns);
    const isa::MatrixOp o = matrix_op(d);
    if (!fits(isa::footprint({0, isa::Engine::kMatrix, isa::kNoWaits, 0, o}, columns))) {
      ++too_large;
      continue;
    }
    PackedWeights none;
    interpret([&] { execute_matrix(a_, none, o, columns); });
    std::shared_ptr<PackedB> packed;
    if (has_matrix_kernel(o)) {
      packed = std::make_shared<PackedB>(std::make_shared<PackedMemory>());
      pack_b(o, columns, b_.scratchpad.data() + o.b, *packed);
      ++translated;
    }
    run_by_halves(*matrix_kernel(b_, o, columns, packed));
    ASSERT_NO_FATAL_FAILURE(expect_same("matrix " + std::to_string(i) + ", format " + std::to_string(d.format) + (d.depthwise ? ", depthwise" : "")));
  }
  emulate_tiles(false), limit_host_isa(best), assume_integers_beside_floats(beside);
  std::printf("  %d matrix instructions translated, %d too large for the memory\n", translated, too_large);
  EXPECT_GE(translated, 4500);
}

isa::VectorDesc RandomInstructions::vector_desc() {
  using isa::StreamType;
  isa::VectorDesc d;
  d.reduced = static_cast<uint8_t>(once_in(2) ? 0 : any(1, 3));
  auto type = [&] {
    return once_in(6) ? of({StreamType::kF8E4M3, StreamType::kF8E5M2, StreamType::kF4E2M1}) : of({StreamType::kF32, StreamType::kF32, StreamType::kBF16, StreamType::kF16, StreamType::kI8, StreamType::kU8, StreamType::kI32, StreamType::kI16, StreamType::kU16});
  };
  d.types = {type(), once_in(2) ? type() : StreamType::kNone, once_in(4) ? type() : StreamType::kNone, type()};
  for (size_t k = 0; k < isa::kVectorDims; ++k) d.extents[k] = static_cast<uint32_t>(once_in(2) ? 1 : any(1, 6));
  d.extents[static_cast<size_t>(any(2, 5))] = static_cast<uint32_t>(once_in(4) ? any(60, 200) : any(1, 40));
  if (d.reduced == 1 && once_in(6)) {  // sums around and beyond a block of docs/numerics.md, "Reductions"
    d.extents = {1, 1, 1, 1, static_cast<uint32_t>(any(1, 2)), static_cast<uint32_t>(of({4095, 4096, 4097, 8192, 8200, 12345}))};
  }
  std::array<int32_t, isa::kVectorDims>* strides[] = {&d.strides0, &d.strides1, &d.strides2, &d.out_strides};
  for (size_t s = 0; s <= isa::kVectorInputs; ++s) {
    if (d.types[s] == StreamType::kNone) continue;
    const bool out = s == isa::kVectorInputs;
    int64_t run = isa::bytes_of(d.types[s]);
    // Dense from the innermost loop out, or with another loop innermost; inputs may stand still along a loop.
    std::array<size_t, isa::kVectorDims> order = {5, 4, 3, 2, 1, 0};
    if (once_in(4)) std::shuffle(order.begin(), order.end(), random_);
    for (size_t k : order) {
      if (out && k >= isa::kVectorDims - static_cast<size_t>(d.reduced)) continue;
      if (!out && once_in(5)) continue;
      (*strides[s])[k] = static_cast<int32_t>(run);
      run *= d.extents[k];
    }
  }
  if (once_in(4)) {
    d.guard_h_limit = static_cast<uint32_t>(any(1, 6)), d.guard_w_limit = static_cast<uint32_t>(any(1, 6));
    d.guard_h_pitch = static_cast<uint32_t>(any(0, 300)), d.guard_w_pitch = static_cast<uint32_t>(any(0, 40));
    for (size_t k = 0; k < isa::kVectorDims; ++k) d.guard_h[k] = static_cast<int16_t>(once_in(3)), d.guard_w[k] = static_cast<int16_t>(once_in(3));
  }
  return d;
}

isa::VectorProgram RandomInstructions::vector_program(const isa::VectorDesc& d) {
  isa::VectorProgram p;
  p.reduce = d.reduced ? of({isa::Reduce::kSum, isa::Reduce::kMax, isa::Reduce::kMin}) : isa::Reduce::kNone;
  p.pre_count = static_cast<uint8_t>(any(0, 5)), p.post_count = static_cast<uint8_t>(any(0, 3));
  for (float& c : p.constants) c = std::ldexp(static_cast<float>(any(-1000, 1000)), static_cast<int>(any(-12, 2)));
  p.fill = once_in(2) ? -INFINITY : 0.0f;
  const bool eight = d.types[3] == isa::StreamType::kI8;
  p.out_lo = static_cast<int16_t>(eight ? -128 : 0), p.out_hi = static_cast<int16_t>(eight ? 127 : 255), p.out_zero = static_cast<int16_t>(any(-20, 140));
  for (int16_t& z : p.in_zero) z = static_cast<int16_t>(any(-20, 140));
  std::vector<uint8_t> readable;
  auto reset = [&](bool reduced) {
    readable = {16, 17, 18, 23};
    for (uint8_t s = 0; s < isa::kVectorInputs; ++s) {
      if (d.types[s] != isa::StreamType::kNone) readable.push_back(static_cast<uint8_t>(isa::kOperandStream + s)), readable.push_back(readable.back());
    }
    if (reduced) readable.insert(readable.end(), 3, isa::kOperandReduced);
  };
  reset(false);
  for (int i = 0; i < p.pre_count + p.post_count; ++i) {
    if (i == p.pre_count && d.reduced) reset(true);
    isa::MicroOp& m = p.ops[static_cast<size_t>(i)];
    m.op = static_cast<isa::Micro>(any(0, isa::kMicroCount - 1));
    m.dst = static_cast<uint8_t>(any(0, 7));
    for (uint8_t* o : {&m.a, &m.b, &m.c}) *o = readable[static_cast<size_t>(any(0, static_cast<int64_t>(readable.size()) - 1))];
    readable.push_back(m.dst), readable.push_back(m.dst);
  }
  return p;
}

isa::VectorOp RandomInstructions::vector_op(const isa::VectorDesc& d, const isa::VectorProgram& p) {
  isa::VectorOp o{};
  o.desc = &d, o.program = &p;
  for (size_t s = 0; s <= isa::kVectorInputs; ++s) {
    const bool words = d.types[s] == isa::StreamType::kF32 || d.types[s] == isa::StreamType::kI32;
    o.spaces[s] = words && s < isa::kVectorInputs && once_in(3) ? isa::Space::kAccumulator : isa::Space::kScratchpad;
    o.addresses[s] = o.spaces[s] == isa::Space::kAccumulator ? static_cast<uint64_t>(any(0, 100) * 4) : static_cast<uint64_t>(any(0, 200) + static_cast<int64_t>(s) * kScratchpad / 4);
  }
  if (once_in(6) && d.types[0] != isa::StreamType::kNone) o.addresses[3] = o.addresses[0], o.spaces[0] = o.spaces[3];
  o.guard_h_origin = static_cast<int32_t>(any(-2, 2)), o.guard_w_origin = static_cast<int32_t>(any(-2, 2));
  return o;
}

TEST_F(RandomInstructions, VectorEqualsTheInterpreter) {
  if (!has_kernels()) GTEST_SKIP() << "this host has no AVX2";
  const HostIsa best = host_isa();
  int compiled = 0, too_large = 0;
  for (int i = 0; i < 9000; ++i) {
    if (i % 50 == 0) fill();
    const isa::VectorDesc d = vector_desc();
    const isa::VectorProgram p = vector_program(d);
    const isa::VectorOp o = vector_op(d, p);
    const auto touches = isa::footprint({0, isa::Engine::kVector, isa::kNoWaits, 0, o}, 16);
    if (!fits(touches) || meets_itself(o, touches)) {
      ++too_large;
      continue;
    }
    VectorCodes codes;
    limit_host_isa(i % 2 ? HostIsa::kAvx2 : best);
    const auto kernel = vector_kernel(b_, o, codes);
    limit_host_isa(best);
    interpret([&] { execute_vector(a_, o); });
    run_by_halves(*kernel);
    compiled += kernel->work_class() == WorkClass::kVector;
    ASSERT_NO_FATAL_FAILURE(expect_same("vector " + std::to_string(i) + ": " + text_of(o)));
  }
  std::printf("  %d vector instructions as machine code, %d do not fit the memory\n", compiled, too_large);
  EXPECT_GE(compiled, 2500);
}

TEST_F(RandomInstructions, CopyEqualsTheInterpreter) {
  for (int i = 0; i < 4000; ++i) {
    if (i % 50 == 0) fill();
    isa::CopyDesc d;
    d.element_bytes = of<uint8_t>({1, 2, 4, 8});
    int64_t src = d.element_bytes, dst = d.element_bytes;
    std::array<size_t, isa::kCopyDims> order = {4, 3, 2, 1, 0};
    for (size_t k = 0; k < isa::kCopyDims; ++k) d.extents[k] = static_cast<uint32_t>(once_in(2) ? 1 : any(0, 9));
    if (once_in(3)) d.extents[4] = static_cast<uint32_t>(any(1, 100));
    if (once_in(2)) std::shuffle(order.begin(), order.end(), random_);
    for (size_t k : order) d.src_strides[k] = src, src *= std::max<uint32_t>(1, d.extents[k]) + (once_in(3) ? 1 : 0);
    if (once_in(2)) std::shuffle(order.begin(), order.end(), random_);
    for (size_t k : order) d.dst_strides[k] = dst, dst *= std::max<uint32_t>(1, d.extents[k]) + (once_in(3) ? 1 : 0);
    if (once_in(4)) d.src_strides[static_cast<size_t>(any(0, 4))] *= -1;  // backwards
    if (once_in(4)) d.dst_strides[static_cast<size_t>(any(0, 4))] *= -1;
    if (once_in(8)) d.dst_strides[static_cast<size_t>(any(0, 4))] = any(0, 2) * d.element_bytes;  // targets written twice: the last stays
    isa::CopyOp o{&d, of({isa::Space::kDram, isa::Space::kScratchpad, isa::Space::kFill}), of({isa::Space::kDram, isa::Space::kScratchpad}), 0, 0};
    o.src_address = static_cast<uint64_t>(any(0, 4000)), o.dst_address = static_cast<uint64_t>(any(0, 6000));
    if (!fits(isa::footprint({0, isa::Engine::kLoad, isa::kNoWaits, 0, o}, 16))) continue;
    const auto kernel = copy_kernel(b_, o);
    execute_copy(a_, o);
    kernel->run(0, kernel->pieces());
    ASSERT_NO_FATAL_FAILURE(expect_same("copy " + std::to_string(i)));
  }
}

TEST_F(RandomInstructions, DequantizeEqualsTheInterpreter) {
  for (int i = 0; i < 500; ++i) {
    if (i % 50 == 0) fill();
    isa::DequantizeOp o{};
    o.record.bits = of({2, 4, 8}), o.record.columns = any(1, 8) * 8 / o.record.bits, o.record.rows = any(1, 40), o.records = any(0, 5);
    o.record.scale_bytes = of({2, 4}), o.to = of<uint8_t>({1, 2, 3}), o.element_bytes = o.to == 3 ? 4 : 2;
    o.src_address = static_cast<uint64_t>(any(0, 3000)), o.dst_address = static_cast<uint64_t>(any(0, 6000));
    if (!fits(isa::footprint({0, isa::Engine::kLoad, isa::kNoWaits, 0, o}, 16))) continue;
    const auto kernel = dequantize_kernel(b_, o);
    execute_dequantize(a_, o);
    run_by_halves(*kernel);
    ASSERT_NO_FATAL_FAILURE(expect_same("dequantize " + std::to_string(i)));
  }
}

}  // namespace
}  // namespace systole
