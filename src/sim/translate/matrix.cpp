// Which kernel runs a matrix instruction; the interpreter where there is none.
#include <atomic>
#include <cstdlib>

#include "machine/cost.h"
#include "sim/translate/host.h"
#include "sim/translate/lanes/kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/pixels.h"

namespace systole {
namespace {

class InterpretedMatrix final : public Kernel {
 public:
  InterpretedMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns) : memory_(memory), op_(op), columns_(columns) {}
  WorkClass work_class() const override { return WorkClass::kMatrixInterpreted; }
  WorkShape shape() const override { return shape_of(op_); }
  void run(int64_t, int64_t) const override {
    // The interpreter keeps packed operands between instructions; here others may have written the scratchpad since.
    static thread_local PackedWeights none;
    none = {};
    execute_matrix(memory_, none, op_, columns_);
  }

 private:
  Memory& memory_;
  const isa::MatrixOp op_;
  int64_t columns_;
};

/// The zero point of B that kernels know: that of signed bytes.
int16_t middle_of(const isa::MatrixDesc& d) { return d.b_signed ? 0 : 128; }
bool is_shifted(const isa::MatrixDesc& d) { return d.format == 0 && !d.depthwise && d.b_zero != middle_of(d); }

/// The same instruction with B's zero point in the middle; `desc` is its descriptor.
isa::MatrixOp centred(const isa::MatrixOp& op, isa::MatrixDesc& desc) {
  isa::MatrixOp o = op;
  desc = *op.desc, desc.b_zero = middle_of(desc), o.desc = &desc;
  return o;
}

void pack(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const LaneKernels& kernels = lane_kernels();
  isa::MatrixDesc desc;
  if (is_shifted(*op.desc)) return kernels.pack_integer_b(centred(op, desc), columns, b, out);
  (op.desc->depthwise ? kernels.pack_depthwise_b : op.desc->format == 0 ? kernels.pack_integer_b : kernels.pack_float_b)(op, columns, b, out);
}

/// Any zero point of B, as where both operands come at run time: sum (a - za)(b - zb) = sum (a - za)(b - m) - (zb - m) sum (a - za).
class ShiftedMatrix final : public Kernel {
 public:
  ShiftedMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version)
      : op_(centred(op, desc_)), shift_(static_cast<uint32_t>(op.desc->b_zero - desc_.b_zero)), pixels_(op_, memory.scratchpad.data()), acc_(memory, op_, columns), product_(lane_kernels().integer_matrix(memory, op_, columns, std::move(packed), a_version)) {}
  WorkClass work_class() const override { return product_->work_class(); }
  WorkShape shape() const override { return product_->shape(); }
  double cost_ns() const override { return product_->cost_ns() + static_cast<double>(acc_.pixels() * (acc_.outputs() + int64_t{desc_.kernel_h} * desc_.kernel_w * desc_.channels)) / 10; }
  void run(int64_t, int64_t) const override {
    product_->run(0, product_->pieces());
    thread_local std::vector<uint32_t> by;
    by.resize(static_cast<size_t>(acc_.pixels()));
    for (int64_t p = 0; p < acc_.pixels(); ++p) by[static_cast<size_t>(p)] = shift_ * sum_of(p);
    for (int64_t o = 0; o < acc_.outputs(); o += acc_.pixel_pitch()) {
      uint32_t* sums = acc_.at(0, o);
      for (int64_t p = 0, n = std::min(acc_.pixel_pitch(), acc_.outputs() - o); p < acc_.pixels(); ++p, sums += acc_.pixel_pitch()) {
        for (int64_t k = 0; k < n; ++k) sums[k] -= by[static_cast<size_t>(p)];
      }
    }
  }

 private:
  /// Of a - za over all taps; in the padding a is za.
  uint32_t sum_of(int64_t p) const {
    uint32_t sum = 0;
    for (int64_t h = 0; h < desc_.kernel_h; ++h) {
      for (int64_t w = 0; w < desc_.kernel_w; ++w) {
        const uint8_t* a = pixels_.at(p, h, w, nullptr);
        if (!a) continue;
        sum += (desc_.a_channel_pitch == 1 ? sum_of_bytes(a, 1) : sum_of_bytes(a, desc_.a_channel_pitch)) - desc_.channels * static_cast<uint32_t>(desc_.a_zero);
      }
    }
    return sum;
  }

  [[gnu::always_inline]] inline uint32_t sum_of_bytes(const uint8_t* a, uint32_t pitch) const {
    uint32_t sum = 0;
    if (desc_.a_signed) {
      for (uint32_t c = 0; c < desc_.channels; ++c) sum += static_cast<uint32_t>(static_cast<int8_t>(a[uint64_t{c} * pitch]));
    } else {
      for (uint32_t c = 0; c < desc_.channels; ++c) sum += a[uint64_t{c} * pitch];
    }
    return sum;
  }

  isa::MatrixDesc desc_;
  const isa::MatrixOp op_;
  const uint32_t shift_;
  const PixelMap pixels_;
  const Accumulators acc_;
  std::unique_ptr<Kernel> product_;
};

class Pack final : public Kernel {
 public:
  Pack(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed) : memory_(memory), op_(op), columns_(columns), packed_(std::move(packed)) {}
  WorkClass work_class() const override { return WorkClass::kPack; }
  WorkShape shape() const override { return shape_of(op_); }
  void run(int64_t, int64_t) const override { pack(op_, columns_, memory_.scratchpad.data() + op_.b, *packed_); }

 private:
  Memory& memory_;
  const isa::MatrixOp op_;
  int64_t columns_;
  std::shared_ptr<PackedB> packed_;
};

std::atomic<uint64_t> g_runs{0};

/// Zero points of A that bytes can stand for.
bool integer_matrix_runs(const isa::MatrixDesc& d) {
  const int zero = d.a_zero + (d.a_signed ? 128 : 0);
  return zero >= 0 && zero <= 255;
}
bool depthwise_runs(const isa::MatrixDesc& d) {
  const bool dense = d.multiplier <= 1 && d.a_channel_pitch == static_cast<uint32_t>(operand_bytes(static_cast<MacFormat>(d.format)));
  if (d.format != 0) return dense;
  return dense && (d.a_signed ? d.a_zero >= -128 && d.a_zero <= 127 : d.a_zero >= 0 && d.a_zero <= 255);
}

}  // namespace

uint64_t begin_run() { return ++g_runs; }
uint64_t current_run() { return g_runs.load(std::memory_order_relaxed); }

const LaneKernels& lane_kernels() {
#ifdef SYSTOLE_X86
  return kernel_isa() == KernelIsa::kAvx512 ? avx512::kKernels : avx2::kKernels;
#else
  std::abort();  // has_kernels is false
#endif
}

bool has_matrix_kernel(const isa::MatrixOp& op) {
  if (!has_kernels() || op.out_rows == 0 || op.out_columns == 0 || op.n == 0) return false;
  if (op.desc->kernel_h == 0 || op.desc->kernel_w == 0 || (!op.desc->depthwise && op.desc->channels == 0)) return false;  // sums of nothing
  return op.desc->depthwise ? depthwise_runs(*op.desc) && rows_fit(op) : op.desc->format != 0 || integer_matrix_runs(*op.desc);
}

void pack_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) { pack(op, columns, b, out); }

std::unique_ptr<Kernel> matrix_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version) {
  if (!packed) return std::make_unique<InterpretedMatrix>(memory, op, columns);
  const LaneKernels& kernels = lane_kernels();
  if (is_shifted(*op.desc)) return std::make_unique<ShiftedMatrix>(memory, op, columns, std::move(packed), a_version);
  if (op.desc->depthwise) return kernels.depthwise(memory, op, columns, std::move(packed));
  return (op.desc->format == 0 ? kernels.integer_matrix : kernels.float_matrix)(memory, op, columns, std::move(packed), a_version);
}

std::unique_ptr<Kernel> pack_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed) {
  return std::make_unique<Pack>(memory, op, columns, std::move(packed));
}

}  // namespace systole
