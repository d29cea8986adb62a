#include "sim/functional/executor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace systole {
namespace {

/// Tile registers for int8 and bf16, which Linux lends to a process that asks.
bool may_use_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;  // leaf 7; not every compiler's __builtin_cpu_supports knows their names
  unsigned a = 0, b = 0, c = 0, features = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &features) || (features & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8)) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

HostIsa detect() {
  HostIsa isa = HostIsa::kScalar;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isa = HostIsa::kAvx2;
  if (isa == HostIsa::kAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) isa = HostIsa::kAvx512;
  if (isa == HostIsa::kAvx512 && __builtin_cpu_supports("avx512bf16")) isa = HostIsa::kAvx512Bf16;
  if (isa == HostIsa::kAvx512Bf16 && may_use_tiles()) isa = HostIsa::kAmx;
#endif
  if (const char* wish = std::getenv("SYSTOLE_HOST_ISA")) {
    HostIsa limit = HostIsa::kScalar;
    while (limit != HostIsa::kAmx && std::strcmp(wish, to_string(limit)) != 0) limit = static_cast<HostIsa>(static_cast<int>(limit) + 1);
    isa = std::min(isa, limit);
  }
  return isa;
}
HostIsa g_best = detect(), g_used = g_best;

}  // namespace

HostIsa host_isa() { return g_used; }
void limit_host_isa(HostIsa isa) { g_used = std::min(isa, g_best); }
const char* to_string(HostIsa isa) {
  static constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "avx512bf16", "amx"};
  return kNames[static_cast<size_t>(isa)];
}

Functional::Functional(const isa::Program& program, const Machine& machine) : Functional(program, machine, NoConstants{}) {
  place_constants(static_cast<int64_t>(program_.constants_address), static_cast<int64_t>(program_.constants_address + program_.constants.size()));
}

void Functional::place_constants(int64_t lo, int64_t hi) {
  const auto first = static_cast<size_t>(lo) - program_.constants_address;
  std::copy_n(program_.constants.data() + first, hi - lo, memory_.dram.data() + lo);
}

Functional::Functional(const isa::Program& program, const Machine& machine, NoConstants) : program_(program), machine_(machine) {
  if (program.machine_hash != machine.hash) {
    fail(ErrorCode::kMismatch, "program '" + program.model + "'", "compiled for machine '" + program.machine_name + "'", "machine '" + machine.name + "' as it is described now", "compile the model again");
  }
  const std::string where = "program '" + program.model + "'";
  sequence_ = isa::sequence(program_);
  const isa::MemorySizes sizes{static_cast<int64_t>(program.dram_bytes), machine.memory.scratchpad_bytes, machine.memory.accumulator_bytes, machine.memory.groups};
  for (const auto& op : sequence_.ops) {
    const auto touches = isa::footprint(op, machine.mx.columns);
    isa::check_footprint(op, touches, sizes, where);
    scratchpad_writes_.emplace_back(0, 0);
    for (const isa::Touch& t : touches) {
      if (t.write && t.space == isa::Space::kScratchpad) scratchpad_writes_.back() = {t.lo, t.hi};
    }
  }
  if (program.dram_bytes > static_cast<uint64_t>(machine.dram.capacity_bytes)) fail(ErrorCode::kResource, where, "needs " + std::to_string(program.dram_bytes) + " bytes of DRAM", "at most the machine's");
  constexpr size_t kSlack = 64;  // vector loads of kernels may reach beyond the last operand
  memory_.scratchpad = ZeroedMemory(static_cast<size_t>(machine.memory.scratchpad_bytes) + kSlack, true);
  memory_.accumulators = ZeroedMemory(static_cast<size_t>(machine.memory.accumulator_bytes), true);
  memory_.dram = ZeroedMemory(program.dram_bytes);
}

void Functional::load(const std::vector<Tensor>& inputs) {
  if (inputs.size() != program_.inputs.size()) fail(ErrorCode::kMismatch, "inputs", std::to_string(inputs.size()) + " given", std::to_string(program_.inputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& want = program_.inputs[i];
    if (inputs[i].type != want.type || inputs[i].shape != want.shape) {
      fail(ErrorCode::kMismatch, "input '" + want.name + "'", std::string(to_string(inputs[i].type)) + to_string(inputs[i].shape), std::string(to_string(want.type)) + to_string(want.shape));
    }
    std::copy(inputs[i].bytes.begin(), inputs[i].bytes.end(), memory_.dram.data() + want.address);
  }
}

std::vector<Tensor> Functional::outputs() {
  std::vector<Tensor> list;
  for (const auto& o : program_.outputs) {
    const uint8_t* from = memory_.dram.data() + o.address;
    list.push_back(filled(o.type, o.shape, [&](uint8_t* to) { std::copy_n(from, element_count(o.shape) * bytes_of(o.type), to); }));
  }
  return list;
}

PackedWeights::Entry& PackedWeights::find(const isa::MatrixOp& op, int64_t lo, int64_t hi, bool& fresh) {
  for (Entry& e : entries_) {
    if (e.lo < e.hi && e.b == op.b && e.n == op.n && e.desc == *op.desc) {
      fresh = false;
      return e;
    }
  }
  Entry& e = entries_[next_++ % entries_.size()];
  e.desc = *op.desc, e.b = op.b, e.n = op.n, e.lo = lo, e.hi = hi;
  fresh = true;
  return e;
}

void PackedWeights::forget(int64_t lo, int64_t hi) {
  for (Entry& e : entries_) {
    if (e.lo < hi && lo < e.hi) e.lo = e.hi = 0;
  }
}

void Functional::execute(size_t i) {
  const isa::Dispatched& op = sequence_.ops[i];
  const auto [lo, hi] = scratchpad_writes_[i];
  if (lo < hi) memory_.packed.forget(lo, hi);
  std::visit(Overload{[](const isa::DescriptorWrite&) {}, [&](const isa::CopyOp& o) { execute_copy(memory_, o); },
                      [&](const isa::DequantizeOp& o) { execute_dequantize(memory_, o); },
                      [&](const isa::MatrixOp& o) { execute_matrix(memory_, memory_.packed, o, machine_.mx.columns); }, [&](const isa::VectorOp& o) { execute_vector(memory_, o); }},
             op.op);
}

std::vector<Tensor> Functional::run(const std::vector<Tensor>& inputs) {
  load(inputs);
  for (size_t i = 0; i < sequence_.ops.size(); ++i) execute(i);
  return outputs();
}

std::vector<Tensor> Functional::run_in_order(const std::vector<Tensor>& inputs, const std::vector<uint32_t>& order) {
  load(inputs);
  for (uint32_t i : order) execute(i);
  return outputs();
}

}  // namespace systole
