// The matrix kernels by operand kind; matrix.cpp chooses.
#pragma once
#include "sim/translate/kernel.h"

namespace systole {

bool integer_matrix_runs(const isa::MatrixOp& op);
void pack_integer_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> integer_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);

void pack_float_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> float_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);

bool depthwise_runs(const isa::MatrixOp& op);
void pack_depthwise_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed);

}  // namespace systole
