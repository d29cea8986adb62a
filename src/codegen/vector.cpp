// A map over a box of its loops, as vector instructions.
#include <algorithm>

#include "base/error.h"
#include "codegen/stage.h"

namespace systole {
namespace {

isa::StreamType stream_type(DType t) {
  switch (t) {
    case DType::kF32: return isa::StreamType::kF32;
    case DType::kBF16: return isa::StreamType::kBF16;
    case DType::kF16: return isa::StreamType::kF16;
    case DType::kI8: case DType::kI4: case DType::kI2: return isa::StreamType::kI8;
    case DType::kU8: case DType::kU4: case DType::kU2: case DType::kBool: return isa::StreamType::kU8;
    case DType::kI16: return isa::StreamType::kI16;
    case DType::kU16: return isa::StreamType::kU16;
    case DType::kF8E4M3FNUZ: return isa::StreamType::kF8E4M3FNUZ;
    case DType::kF8E5M2FNUZ: return isa::StreamType::kF8E5M2FNUZ;
    case DType::kF8E8M0: return isa::StreamType::kF8E8M0;
    case DType::kF4E2M1: return isa::StreamType::kF4E2M1;
    case DType::kI32: return isa::StreamType::kI32;
    case DType::kF8E4M3: return isa::StreamType::kF8E4M3;
    case DType::kF8E5M2: return isa::StreamType::kF8E5M2;
    default: fail(ErrorCode::kUnsupported, "vector stream", std::string("values of type ") + to_string(t), "f32, bf16, fp16, fp8, int8, uint8 or int32");
  }
}

/// The micro-program of a map. `stream_of[k]` is the stream of input k.
isa::VectorProgram assemble(const Map& m, const std::vector<int>& stream_of) {
  isa::VectorProgram p;
  p.reduce = m.reduce;
  p.fill = m.fill;
  p.out_zero = static_cast<int16_t>(m.out_zero), p.out_lo = static_cast<int16_t>(m.out_lo), p.out_hi = static_cast<int16_t>(m.out_hi);
  for (size_t k = 0; k < m.accesses.size(); ++k) p.in_zero[static_cast<size_t>(stream_of[k])] = static_cast<int16_t>(m.accesses[k].zero_point);
  size_t constants = 0;
  auto constant = [&](float v) {
    for (size_t i = 0; i < constants; ++i) {
      if (std::bit_cast<uint32_t>(p.constants[i]) == std::bit_cast<uint32_t>(v)) return static_cast<uint8_t>(isa::kOperandConstant + i);
    }
    SYSTOLE_CHECK(constants < isa::kMicroConstants, "micro-program constants");
    p.constants[constants] = v;
    return static_cast<uint8_t>(isa::kOperandConstant + constants++);
  };
  size_t next = 0;
  auto append = [&](const std::vector<Operation>& list) {
    std::vector<int> last(list.size(), -1), reg(list.size(), -1);
    for (size_t i = 0; i < list.size(); ++i) {
      for (const Operand& o : list[i].operands) {
        if (o.kind == Operand::Kind::kResult) last[static_cast<size_t>(o.index)] = static_cast<int>(i);
      }
    }
    bool busy[8] = {};
    for (size_t i = 0; i < list.size(); ++i) {
      isa::MicroOp op;
      op.op = list[i].op;
      uint8_t* const slots[] = {&op.a, &op.b, &op.c};
      for (size_t k = 0; k < list[i].operands.size(); ++k) {
        const Operand& o = list[i].operands[k];
        *slots[k] = o.kind == Operand::Kind::kInput      ? static_cast<uint8_t>(isa::kOperandStream + stream_of[static_cast<size_t>(o.index)])
                    : o.kind == Operand::Kind::kConstant ? constant(o.constant)
                    : o.kind == Operand::Kind::kReduced  ? static_cast<uint8_t>(isa::kOperandReduced)
                                                         : static_cast<uint8_t>(reg[static_cast<size_t>(o.index)]);
      }
      for (size_t k = 0; k < i; ++k) {
        if (last[k] == static_cast<int>(i)) busy[reg[k]] = false;
      }
      int free = 0;
      while (free < 8 && busy[free]) ++free;
      SYSTOLE_CHECK(free < 8, "micro-program registers");
      reg[i] = free, busy[free] = last[i] > static_cast<int>(i);
      op.dst = static_cast<uint8_t>(free);
      p.ops[next++] = op;
    }
  };
  append(m.pre);
  p.pre_count = static_cast<uint8_t>(next);
  append(m.post);
  p.post_count = static_cast<uint8_t>(next - p.pre_count);
  return p;
}

/// One loop of a vector instruction.
struct Loop {
  int64_t extent = 1;
  std::array<int64_t, isa::kVectorInputs + 1> stride{};
  int64_t guard_h = 0, guard_w = 0;
  bool reduced = false;
};

bool joins(const Loop& outer, const Loop& inner) {
  if (outer.reduced != inner.reduced || outer.guard_h != inner.guard_h * inner.extent || outer.guard_w != inner.guard_w * inner.extent) return false;
  for (size_t s = 0; s < outer.stride.size(); ++s) {
    if (outer.stride[s] != inner.stride[s] * inner.extent) return false;
  }
  return outer.extent * inner.extent < (1 << 24);
}

struct Guard {
  int input = -1;
  size_t h = 0, w = 0;  ///< guarded tensor dimensions
  int64_t h_origin = 0, w_origin = 0, h_limit = 1, w_limit = 1, h_pitch = 0, w_pitch = 0;
};

/// Up to two dimensions of the guarded input can leave the tensor.
Guard find_guard(const Node& node, const Map& m, const Graph& graph) {
  Guard g;
  for (size_t k = 0; k < m.accesses.size(); ++k) {
    if (!m.accesses[k].guarded) continue;
    SYSTOLE_CHECK(g.input < 0, node.name);
    g.input = static_cast<int>(k);
    SYSTOLE_CHECK(graph.value(node.inputs[k]).shape.size() == 4, node.name);
    g.h = 1, g.w = 2;
  }
  return g;
}

struct Instruction {
  std::vector<Loop> loops;
  std::array<int64_t, isa::kVectorInputs + 1> base{};
  int64_t guard_h_origin = 0, guard_w_origin = 0;
};

class VectorEmitter {
 public:
  VectorEmitter(Emitter& e, const Node& node, const std::vector<Tile>& inputs, const Tile& output, const AccumulatorTile& acc)
      : e_(e), node_(node), m_(std::get<Map>(node.op)), inputs_(inputs), output_(output), acc_(acc), guard_(find_guard(node, m_, e.graph)) {
    // The guarded input is stream 0; the others keep their order.
    int next = guard_.input > 0 ? 1 : 0;
    for (size_t k = 0; k < m_.accesses.size(); ++k) {
      if (static_cast<int>(k) == guard_.input) stream_of_.push_back(0);
      else stream_of_.push_back(guard_.input >= 0 ? (next = std::max(next, 1), next++) : next++);
    }
    types_.fill(isa::StreamType::kNone);
    spaces_.fill(isa::Space::kScratchpad);
    for (size_t k = 0; k < m_.accesses.size(); ++k) {
      types_[stream(k)] = stream_type(e.graph.value(node.inputs[k]).type);
      if (static_cast<int>(k) == acc.input) spaces_[stream(k)] = isa::Space::kAccumulator;
    }
    types_[isa::kVectorInputs] = stream_type(e.graph.value(node.outputs[0]).type);
  }

  void emit(const std::vector<int64_t>& lo, const std::vector<int64_t>& extent) {
    if (acc_.input < 0) return build(lo, extent, -1, 0, 0);
    // Accumulators: whole column tiles in one instruction, a partial last tile in another.
    const int64_t c = e_.machine.mx.columns, n = extent.back(), full = n / c;
    if (full > 0) build(lo, extent, full, c, 0);
    if (n % c) build(lo, extent, 1, n % c, full);
  }

 private:
  size_t stream(size_t input) const { return static_cast<size_t>(stream_of_[input]); }

  /// `tiles` >= 0: the last loop is split into (tiles, width) starting at column tile `first_tile`.
  void build(const std::vector<int64_t>& lo, std::vector<int64_t> extent, int64_t tiles, int64_t width, int64_t first_tile) {
    Instruction x;
    std::vector<int64_t> at = lo;
    if (tiles >= 0) at.back() += first_tile * e_.machine.mx.columns, extent.back() = tiles * width;
    x.loops.resize(extent.size());
    for (size_t i = 0; i < extent.size(); ++i) {
      x.loops[i].extent = extent[i];
      x.loops[i].reduced = static_cast<int64_t>(i) >= m_.output_rank();
    }
    Guard g = guard_;
    for (size_t k = 0; k < m_.accesses.size(); ++k) {
      if (static_cast<int>(k) == acc_.input) continue;
      const bool guarded = static_cast<int>(k) == g.input;
      const Tile& tile = inputs_[k];
      x.base[stream(k)] = static_cast<int64_t>(tile.address);
      for (size_t d = 0; d < m_.accesses[k].index.size(); ++d) {
        const IndexExpr& expr = m_.accesses[k].index[d];
        int64_t origin = expr.offset - tile.lo[d];
        for (const IndexTerm& t : expr.terms) origin += t.coefficient * at[static_cast<size_t>(t.loop)];
        if (guarded && (d == g.h || d == g.w)) {
          (d == g.h ? x.guard_h_origin : x.guard_w_origin) = origin;
          (d == g.h ? g.h_pitch : g.w_pitch) = tile.strides[d];
          (d == g.h ? g.h_limit : g.w_limit) = guard_limit(k, d, tile);
          for (const IndexTerm& t : expr.terms) (d == g.h ? x.loops[static_cast<size_t>(t.loop)].guard_h : x.loops[static_cast<size_t>(t.loop)].guard_w) += t.coefficient;
          continue;
        }
        x.base[stream(k)] += origin * tile.strides[d];
        for (const IndexTerm& t : expr.terms) x.loops[static_cast<size_t>(t.loop)].stride[stream(k)] += t.coefficient * tile.strides[d];
      }
    }
    const size_t out = isa::kVectorInputs;
    x.base[out] = static_cast<int64_t>(output_.address);
    for (size_t d = 0; d < static_cast<size_t>(m_.output_rank()); ++d) {
      x.base[out] += (at[d] - output_.lo[d]) * output_.strides[d];
      x.loops[d].stride[out] = output_.strides[d];
    }
    if (tiles >= 0) split_accumulator(x, tiles, width, first_tile);
    guard_now_ = g;
    std::vector<Loop> loops;
    for (const Loop& l : x.loops) {
      if (l.extent == 1) continue;
      if (!loops.empty() && joins(loops.back(), l)) {
        const int64_t extent_now = loops.back().extent * l.extent;
        loops.back() = l;
        loops.back().extent = extent_now;
      } else {
        loops.push_back(l);
      }
    }
    x.loops = std::move(loops);
    unroll(x);
  }

  /// Rows or columns of the tile that exist: the box is already clipped to the tensor.
  int64_t guard_limit(size_t k, size_t d, const Tile& tile) const {
    const int64_t whole = e_.graph.value(node_.inputs[k]).shape[d];
    // Dense boxes: extent = stride of the dimension outside / own stride; resident tensors have the tensor's extent.
    if (e_.resident(node_.inputs[k])) return whole;
    return d == 0 ? whole : tile.strides[d - 1] / std::max<int64_t>(1, tile.strides[d]);
  }

  /// Loops [.., rows, cols, channels] of an accumulator block at acc + [tile][pixel][C].
  void split_accumulator(Instruction& x, int64_t tiles, int64_t width, int64_t first_tile) const {
    const size_t s = stream(static_cast<size_t>(acc_.input)), rank = x.loops.size();
    const int64_t c = e_.machine.mx.columns;
    x.base[s] = 4 * (acc_.first + first_tile * acc_.pixels * c);
    Loop channel = x.loops.back(), tile = channel;
    x.loops.pop_back();
    tile.extent = tiles, channel.extent = width;
    for (int64_t& stride : tile.stride) stride *= width;
    tile.stride[s] = 4 * acc_.pixels * c, channel.stride[s] = 4;
    x.loops[rank - 2].stride[s] = 4 * c;
    x.loops[rank - 3].stride[s] = 4 * c * acc_.block_cols;
    x.loops.push_back(tile), x.loops.push_back(channel);
  }

  void unroll(const Instruction& x) {
    if (x.loops.size() <= isa::kVectorDims) return finish(x);
    // More than six loops: the outermost becomes instructions. Reduced loops are last, so it is a kept one.
    SYSTOLE_CHECK(!x.loops[0].reduced, node_.name);
    Instruction part = x;
    part.loops.erase(part.loops.begin());
    for (int64_t i = 0; i < x.loops[0].extent; ++i) {
      for (size_t s = 0; s < part.base.size(); ++s) part.base[s] = x.base[s] + i * x.loops[0].stride[s];
      part.guard_h_origin = x.guard_h_origin + i * x.loops[0].guard_h, part.guard_w_origin = x.guard_w_origin + i * x.loops[0].guard_w;
      unroll(part);
    }
  }

  void finish(const Instruction& x) {
    isa::VectorDesc d;
    d.types = types_;
    const size_t kept = static_cast<size_t>(std::count_if(x.loops.begin(), x.loops.end(), [](const Loop& l) { return !l.reduced; }));
    const size_t reduced = x.loops.size() - kept;
    // A reduction over unit loops still is one: its micro-program expects the reduced value.
    const size_t reduced_slots = m_.reduced > 0 ? std::max<size_t>(1, reduced) : 0;
    SYSTOLE_CHECK(kept + reduced_slots <= isa::kVectorDims, node_.name);
    d.reduced = static_cast<uint8_t>(reduced_slots);
    for (size_t i = 0; i < x.loops.size(); ++i) {
      const bool is_reduced = i >= kept;
      const size_t to = is_reduced ? isa::kVectorDims - reduced + (i - kept) : isa::kVectorDims - reduced_slots - kept + i;
      const Loop& l = x.loops[i];
      d.extents[to] = static_cast<uint32_t>(l.extent);
      d.strides0[to] = static_cast<int32_t>(l.stride[0]), d.strides1[to] = static_cast<int32_t>(l.stride[1]), d.strides2[to] = static_cast<int32_t>(l.stride[2]);
      d.out_strides[to] = static_cast<int32_t>(l.stride[3]);
      d.guard_h[to] = static_cast<int16_t>(l.guard_h), d.guard_w[to] = static_cast<int16_t>(l.guard_w);
    }
    if (guard_now_.input >= 0) {
      d.guard_h_limit = static_cast<uint32_t>(guard_now_.h_limit), d.guard_w_limit = static_cast<uint32_t>(guard_now_.w_limit);
      d.guard_h_pitch = static_cast<uint32_t>(guard_now_.h_pitch), d.guard_w_pitch = static_cast<uint32_t>(guard_now_.w_pitch);
    }
    isa::Vector v;
    v.spaces = spaces_;
    for (size_t s = 0; s < v.imms.size(); ++s) {
      SYSTOLE_CHECK(x.base[s] >= 0, node_.name + " stream " + std::to_string(s));
      v.imms[s] = static_cast<uint32_t>(x.base[s]);
    }
    v.guard_h_origin = static_cast<int32_t>(x.guard_h_origin), v.guard_w_origin = static_cast<int32_t>(x.guard_w_origin);
    const DescriptorId program = e_.program_of(node_, [&] { return assemble(m_, stream_of_); });
    e_.push(v, ranges(x), e_.describe(d), program);
  }

  ByteRanges ranges(const Instruction& x) const {
    ByteRanges list;
    for (size_t s = 0; s <= isa::kVectorInputs; ++s) {
      if (types_[s] == isa::StreamType::kNone) continue;
      const bool out = s == isa::kVectorInputs;
      int64_t lo = x.base[s], hi = lo;
      for (const Loop& l : x.loops) {
        if (out && l.reduced) continue;
        const int64_t reach = l.stride[s] * (l.extent - 1);
        (reach < 0 ? lo : hi) += reach;
      }
      if (s == 0 && guard_now_.input >= 0) hi += (guard_now_.h_limit - 1) * guard_now_.h_pitch + (guard_now_.w_limit - 1) * guard_now_.w_pitch;
      list.push_back({spaces_[s], static_cast<uint64_t>(lo), static_cast<uint64_t>(hi + isa::bytes_of(types_[s])), out});
    }
    return list;
  }

  Emitter& e_;
  const Node& node_;
  const Map& m_;
  const std::vector<Tile>& inputs_;
  const Tile& output_;
  const AccumulatorTile& acc_;
  Guard guard_, guard_now_;
  std::vector<int> stream_of_;
  std::array<isa::StreamType, isa::kVectorInputs + 1> types_;
  std::array<isa::Space, isa::kVectorInputs + 1> spaces_;
};

}  // namespace

void emit_vector(Emitter& e, const Node& node, const std::vector<Tile>& inputs, const Tile& output, const std::vector<int64_t>& lo, const std::vector<int64_t>& extent, const AccumulatorTile& acc) {
  VectorEmitter(e, node, inputs, output, acc).emit(lo, extent);
}

}  // namespace systole
