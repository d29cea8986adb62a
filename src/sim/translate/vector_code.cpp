#include "sim/translate/vector_code.h"

#include <exception>

#include "sim/translate/vector_writer.h"

namespace systole {
#ifdef SYSTOLE_X86
VectorCode::VectorCode(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan)
    : writer_((kernel_isa() == KernelIsa::kAvx512 ? avx512_writer : avx2_writer)(desc, program, plan)) {
  writer_->write();
  run_ = writer_->getCode<void (*)(const VectorCall*)>();
}
#else
class VectorWriter {};
VectorCode::VectorCode(const isa::VectorDesc&, const isa::VectorProgram&, const VectorPlan&) {}
#endif
VectorCode::~VectorCode() = default;

namespace {

template <class T>
void append(std::string& key, const T& v) {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
  key.append(reinterpret_cast<const char*>(&v), sizeof v);
}
void append(std::string& key, const VectorLoop& l) {
  append(key, l.extent);
  for (int64_t s : l.strides) append(key, s);
}

std::string key_of(const isa::VectorOp& op, const VectorPlan& plan) {
  const isa::VectorProgram& p = *op.program;
  std::string key;
  append(key, plan.kind), append(key, plan.lanes), append(key, plan.rows), append(key, plan.reduced_positions());
  append(key, op.desc->guard_h_limit != 0);
  for (auto t : op.desc->types) append(key, t);
  append(key, p.pre_count), append(key, p.post_count), append(key, p.reduce), append(key, p.out_zero), append(key, p.out_lo), append(key, p.out_hi), append(key, p.fill);
  for (int16_t z : p.in_zero) append(key, z);
  for (int i = 0; i < p.pre_count + p.post_count; ++i) {
    const isa::MicroOp& m = p.ops[static_cast<size_t>(i)];
    append(key, m.op), append(key, m.dst), append(key, m.a), append(key, m.b), append(key, m.c);
  }
  for (float c : p.constants) append(key, c);
  return key;
}

}  // namespace

std::shared_ptr<const VectorCode> VectorCodes::find(const isa::VectorOp& op, const VectorPlan& plan) {
  auto& kept = codes_[key_of(op, plan)];
  if (kept) return kept;
  try {
    kept = std::make_shared<VectorCode>(*op.desc, *op.program, plan);
  } catch (const std::exception&) {
    return nullptr;
  }
  return kept;
}

}  // namespace systole
