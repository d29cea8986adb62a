#include "sim/translate/kernel.h"

namespace systole {
namespace {

class Copy final : public Kernel {
 public:
  Copy(Memory& memory, const isa::CopyOp& op) : memory_(memory), op_(op) {}
  WorkClass work_class() const override { return WorkClass::kCopy; }
  void run(int64_t, int64_t) const override { execute_copy(memory_, op_); }

 private:
  Memory& memory_;
  const isa::CopyOp op_;
};

}  // namespace

std::unique_ptr<Kernel> copy_kernel(Memory& memory, const isa::CopyOp& op) { return std::make_unique<Copy>(memory, op); }

}  // namespace systole
