// Which kernel runs a matrix instruction; the interpreter where there is none.
#include <atomic>

#include "sim/translate/host.h"
#include "sim/translate/kernel.h"
#include "sim/translate/matrix_kernels.h"

namespace systole {
namespace {

class InterpretedMatrix final : public Kernel {
 public:
  InterpretedMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns) : memory_(memory), op_(op), columns_(columns) {}
  WorkClass work_class() const override { return WorkClass::kMatrixInterpreted; }
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
#ifdef SYSTOLE_HAS_AVX512
  if (op.desc->depthwise) pack_depthwise_b(op, columns, b, out);
  else op.desc->format == 0 ? pack_integer_b(op, columns, b, out) : pack_float_b(op, columns, b, out);
#endif
}

class Pack final : public Kernel {
 public:
  Pack(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed) : memory_(memory), op_(op), columns_(columns), packed_(std::move(packed)) {}
  WorkClass work_class() const override { return WorkClass::kPack; }
  void run(int64_t, int64_t) const override { pack(op_, columns_, memory_.scratchpad.data() + op_.b, *packed_); }

 private:
  Memory& memory_;
  const isa::MatrixOp op_;
  int64_t columns_;
  std::shared_ptr<PackedB> packed_;
};

std::atomic<uint64_t> g_runs{0};

}  // namespace

uint64_t begin_run() { return ++g_runs; }
uint64_t current_run() { return g_runs.load(std::memory_order_relaxed); }

bool has_matrix_kernel(const isa::MatrixOp& op) {
#ifdef SYSTOLE_HAS_AVX512
  if (!has_avx512_kernels() || op.out_rows == 0 || op.out_columns == 0 || op.n == 0) return false;
  if (op.desc->depthwise) return depthwise_runs(op);
  return op.desc->format != 0 || integer_matrix_runs(op);
#else
  return false;
#endif
}

void pack_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) { pack(op, columns, b, out); }

std::unique_ptr<Kernel> matrix_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, [[maybe_unused]] uint64_t a_version) {
#ifdef SYSTOLE_HAS_AVX512
  if (packed && op.desc->depthwise) return depthwise(memory, op, columns, std::move(packed));
  if (packed) return op.desc->format == 0 ? integer_matrix(memory, op, columns, std::move(packed), a_version) : float_matrix(memory, op, columns, std::move(packed), a_version);
#endif
  return std::make_unique<InterpretedMatrix>(memory, op, columns);
}

std::unique_ptr<Kernel> pack_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed) {
  return std::make_unique<Pack>(memory, op, columns, std::move(packed));
}

}  // namespace systole
