// The code generator behind VectorCode: streams to fp32 lanes, micro-operations in registers, results to bytes.
//
// Frame, loops and the order of reductions are the same for all instruction sets and are written here; what happens to the lanes
// of a register is a subclass's. Vector registers 0..7 are the micro registers, 8..10 the streams, 11 the reduced value; 12 and up
// are the subclass's. rbx, r12, r13 point into the streams, r14 into the output, r15 counts lanes. Functions of the function
// unit are calls (lanes/kernels.h), around which live registers go to the frame.
#pragma once
#include "sim/translate/host.h"
#ifdef SYSTOLE_X86
#include <xbyak/xbyak.h>

#include <functional>
#include <map>

#include "sim/translate/lanes/kernels.h"
#include "sim/translate/vector_code.h"

namespace systole {

class VectorWriter : public Xbyak::CodeGenerator {
 public:
  virtual ~VectorWriter() = default;
  /// Writes the whole function and makes it executable.
  void write();

 protected:
  /// A vector register of either width: Xbyak keeps the width in the value.
  using Vec = Xbyak::Xmm;
  using Address = Xbyak::Address;
  using Reg64 = Xbyak::Reg64;

  /// `lanes` of a vector register; functions are those of `kernels`.
  VectorWriter(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan, int lanes, const LaneKernels& kernels);

  // vector_writer.cpp: the frame, the loops, the operations
  void load_streams(int first, int last, bool tail, bool scalar);
  Vec compute(int first, int last, bool tail);
  bool live_after(int at, int last, uint8_t number) const;
  Address running_place(int partial) { return ptr[rsp + running_at() + bytes_ * partial]; }
  /// A 32-bit value in the pool behind the code.
  Address pooled(uint32_t bits);
  Address pooled(float v) { return pooled(std::bit_cast<uint32_t>(v)); }
  int running_vectors() const { return 64 / lanes_; }

  // What a subclass writes.
  virtual Vec vec(int number) const = 0;
  /// What is kept in registers over the whole function.
  virtual void load_constants() = 0;
  /// Starts writing anew, with what the first writing found; false: the first is good.
  virtual bool write_again() { return false; }
  virtual void write_pool_entry(uint64_t key) = 0;
  /// From here `tail` means so many lanes.
  virtual void set_tail(uint32_t lanes) = 0;
  /// A call may have changed what set_tail prepared.
  virtual void restore_tail() {}
  /// Every vector of running sums, maxima or minima to its first value, which is left in the register given back.
  virtual Vec start_running(float first) = 0;
  virtual void add_to_running(const Vec& v, int partial, bool tail) = 0;
  /// What add_to_running left of partial 0, to register 11.
  virtual void take_running() = 0;
  /// Partials 0..63 (docs/numerics.md, "Reductions") folded by halves into every lane of register 11.
  virtual void finish_running() = 0;
  virtual void load_lanes(isa::StreamType type, const Vec& to, const Reg64& base, bool tail) = 0;
  virtual void broadcast_eax(const Vec& to) = 0;
  /// Integers less a zero point.
  virtual void subtract_zero(const Vec& v, int zero) = 0;
  virtual void broadcast(const Vec& to, float v) = 0;
  /// The register of an operand, the first, second or third of its operation.
  virtual Vec operand(uint8_t number, int position) = 0;
  /// A register that neither operand() nor the lanes' registers use, for moves around calls.
  virtual Vec spare() const = 0;
  /// numerics/reduce.h, maximum and minimum.
  virtual void extreme(bool greatest, const Vec& to, const Vec& a, const Vec& b) = 0;
  /// Operations that are more than one instruction, or a constant's.
  virtual void special_operation(isa::Micro op, const Vec& d, const Vec& a, const Vec& b, const Vec& c) = 0;
  virtual void store(const Vec& v, bool tail, bool scalar) = 0;

  const isa::VectorDesc& d_;
  const isa::VectorProgram& p_;
  const VectorPlan& plan_;
  const LaneKernels& kernels_;
  const int lanes_, bytes_;
  bool calls_ = false;       ///< some operation is a call
  int partials_ = 1;         ///< kLanesKept sums: partials in the frame, a power of two
  std::map<uint64_t, std::unique_ptr<Xbyak::Label>> pool_;  ///< values, and keys above 32 bits of the subclass

 private:
  // vector_writer_reductions.cpp
  void write_reduced_row();
  void write_kept(bool tail);
  void write_reduced_step(int partial, bool tail);
  void write_reduced_lanes(int64_t first, int64_t n);
  void write_reduced_round();
  void write_blocks(int64_t count);
  void add_block();
  void fold_partials();

  // vector_writer.cpp
  void write_body();
  void enter();
  void leave();
  void write_rows(const std::function<void()>& row);
  void write_lanes(const std::function<void(bool tail)>& body);
  void write_map_row();
  void point_at_position(const Reg64& position);
  void add_bytes(const Reg64& r, int64_t bytes);
  void hold_broadcast_streams(int first, int last);
  void load(size_t stream, bool tail, bool scalar);
  void load_scalar(isa::StreamType type, const Vec& to, const Reg64& from);
  void operation(const isa::MicroOp& m);
  void call_function(VectorFunction f, int at, int last, bool tail);
  bool stream_used(int first, int last, size_t stream) const;
  int running_at() const { return 12 * bytes_; }  ///< in the frame, behind registers saved around calls
  int partials_at() const { return running_at() + running_vectors() * bytes_; }
  Address total_place() { return ptr[rsp + partials_at()]; }  ///< of a kLanesReduced sum's blocks
  int words_at() const { return partials_at() + bytes_ * partials_; }

  static constexpr int kWords = 64;  ///< bytes of the frame's words, behind everything else
  static constexpr int kStackWord = 0, kCallWord = 8, kCountWord = 16, kPartialWord = 24, kBlockEndWord = 32;
  const Reg64 kLane = Xbyak::util::r15;

  bool stream_held_[isa::kVectorInputs] = {};
};

std::unique_ptr<VectorWriter> avx512_writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan);
std::unique_ptr<VectorWriter> avx2_writer(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan);

}  // namespace systole
#endif
