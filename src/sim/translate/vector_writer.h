// The code generator behind VectorCode: streams to fp32 lanes, micro-operations in registers, results to bytes.
//
// zmm0..7 are the micro registers, zmm8..10 the streams, zmm11 the reduced value, zmm16..23 the constants; zmm24..27 hold
// running reductions, the others are scratch. rbx, r12, r13 point into the streams, r14 into the output, r15 counts lanes.
// Functions of the function unit are calls (vector_functions.h), around which live registers go to the frame.
#pragma once
#include "sim/translate/host.h"
#ifdef SYSTOLE_HAS_AVX512
#include <xbyak/xbyak.h>

#include <functional>
#include <map>

#include "sim/translate/vector_code.h"
#include "sim/translate/vector_functions.h"

namespace systole {

class VectorWriter : public Xbyak::CodeGenerator {
 public:
  VectorWriter(const isa::VectorDesc& desc, const isa::VectorProgram& program, const VectorPlan& plan);
  /// Writes the whole function and makes it executable.
  void write();

 private:
  using Zmm = Xbyak::Zmm;
  using Address = Xbyak::Address;
  using Reg64 = Xbyak::Reg64;

  // vector_writer.cpp: the frame, the loops, the order of reductions
  void write_body();
  void enter();
  void leave();
  void write_rows(const std::function<void()>& row);
  void write_lanes(const std::function<void(bool tail)>& body);
  void write_map_row();
  void write_reduced_row();
  void write_reduced_step(int partial, bool tail);
  void write_kept(bool tail);
  void start_running();
  void add_to_running(const Zmm& v, int partial, bool tail);
  void finish_running();
  void fold_partials();
  void point_at_position(const Reg64& position);
  void set_mask(uint32_t lanes);
  void add_bytes(const Reg64& r, int64_t bytes);

  // vector_operations.cpp: what happens to sixteen lanes
  void load_streams(int first, int last, bool tail, bool scalar);
  void hold_broadcast_streams(int first, int last);
  void load(size_t stream, bool tail, bool scalar);
  void load_lanes(isa::StreamType type, const Zmm& to, const Address& from, bool tail);
  void load_scalar(isa::StreamType type, const Zmm& to, const Reg64& from);
  Zmm compute(int first, int last, bool tail);
  void operation(const isa::MicroOp& m);
  void compare_to_one(const Zmm& to, const Zmm& a, const Zmm& b, int predicate);
  void extreme(bool greatest, const Zmm& to, const Zmm& a, const Zmm& b);
  void call_function(VectorFunction f, int at, int last, bool tail);
  void store(const Zmm& v, bool tail, bool scalar);
  void store_eight_bit_float(const Zmm& v, const Address& to, bool e4m3);
  void store_integer(const Zmm& v, const Address& to, int lo, int hi, int zero, int bytes);
  Zmm operand(uint8_t number);
  bool live_after(int at, int last, uint8_t number) const;
  bool stream_used(int first, int last, size_t stream) const;
  /// A 32-bit value in the pool behind the code, to be read or broadcast.
  Address pooled(uint32_t bits);
  Address pooled(float v) { return pooled(std::bit_cast<uint32_t>(v)); }
  /// The value in every lane of a register: one kept for it over all rows, else the scratch register, loaded here.
  Zmm held(uint32_t bits, const Zmm& scratch);
  Zmm held(float v, const Zmm& scratch) { return held(std::bit_cast<uint32_t>(v), scratch); }
  void broadcast(const Zmm& to, float v) { vbroadcastss(to, pooled(v)); }

  const isa::VectorDesc& d_;
  const isa::VectorProgram& p_;
  const VectorPlan& plan_;
  bool calls_ = false;       ///< some operation is a call
  int partials_ = 1;         ///< kLanesKept sums: partials in the frame, a power of two
  bool stream_held_[isa::kVectorInputs] = {};
  uint32_t mask_ = 0xFFFF;   ///< what k1 holds
  std::map<uint32_t, int> held_;  ///< register of a value, as found by a first writing
  bool again_ = false;            ///< this is the second writing
  std::map<uint32_t, std::unique_ptr<Xbyak::Label>> pool_;
};

}  // namespace systole
#endif
