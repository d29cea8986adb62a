// Which kernel runs a matrix instruction; the interpreter where there is none.
#include <atomic>
#include <cstdlib>

#include "machine/cost.h"
#include "sim/translate/host.h"
#include "sim/translate/lanes/kernels.h"
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

void pack(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const LaneKernels& kernels = lane_kernels();
  (op.desc->depthwise ? kernels.pack_depthwise_b : op.desc->format == 0 ? kernels.pack_integer_b : kernels.pack_float_b)(op, columns, b, out);
}

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

/// Zero points that bytes can stand for.
bool integer_matrix_runs(const isa::MatrixDesc& d) {
  const int zero = d.a_zero + (d.a_signed ? 128 : 0);
  return zero >= 0 && zero <= 255 && d.b_zero == (d.b_signed ? 0 : 128);
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
  if (op.desc->depthwise) return kernels.depthwise(memory, op, columns, std::move(packed));
  return (op.desc->format == 0 ? kernels.integer_matrix : kernels.float_matrix)(memory, op, columns, std::move(packed), a_version);
}

std::unique_ptr<Kernel> pack_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed) {
  return std::make_unique<Pack>(memory, op, columns, std::move(packed));
}

}  // namespace systole
