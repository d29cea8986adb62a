// A contract and its drain: tiles of weights and pixels come through the ring, MX fills one accumulator half while VX
// drains the other.
#include <algorithm>
#include <memory>

#include "base/error.h"
#include "codegen/layers.h"
#include "codegen/stage.h"
#include "isa/footprint.h"
#include "schedule/tile_contract.h"

namespace systole {
namespace {

struct Pixels {
  int64_t row, col, rows, cols;  ///< output pixels
};
struct Columns {
  int64_t first, count;  ///< output channels inside the group
};
struct Depth {
  int64_t first, count;  ///< input channels inside the group
  int64_t tap = 0;       ///< of the kernel, where its taps come one after the other
};

class ContractEmitter {
 public:
  ContractEmitter(Emitter& e, const Node& node, const Node& drain, const Node* then)
      : e_(e), node_(node), drain_(drain), then_(then), c_(std::get<Contract>(node.op)), map_(std::get<Map>(drain.op)), a_(e.graph.value(node.inputs[0])), b_(e.graph.value(node.inputs[1])) {
    const Shape &out = e.graph.value(node.outputs[0]).shape;
    s_.contract = &c_;
    s_.block_overhead_cycles = e.preferences.block_overhead_cycles, s_.tiles_in_groups = e.preferences.products_in_groups;
    s_.images = out[0], s_.in_h = a_.shape[1], s_.in_w = a_.shape[2], s_.in_c = a_.shape[3], s_.out_h = out[1], s_.out_w = out[2];
    s_.groups = c_.depthwise ? 1 : c_.groups;
    s_.k_channels = b_.shape[c_.b_transposed ? 5 : 4], s_.columns = b_.shape[c_.b_transposed ? 4 : 5];
    s_.multiplier = c_.depthwise ? out[3] / a_.shape[3] : 1;
    s_.a_bytes = bytes_of(a_.type), s_.out_bytes = bytes_of(e.graph.value(drain.outputs[0]).type);
    a_strides_ = e.strides(node.inputs[0]);
    s_.a_turned = a_.shape[3] > 1 && a_strides_[3] != s_.a_bytes;
    s_.a_resident = e.resident(node.inputs[0]) && !s_.a_turned, s_.out_resident = e.resident(drain.outputs[0]);
    s_.weights_dynamic_resident = !b_.constant && e.resident(node.inputs[1]);
    s_.weights_streamed = !b_.constant && !c_.group_rows && !s_.weights_dynamic_resident;
    if (c_.group_rows) {
      // What DRAM has to deliver, or the port to write if that takes longer, per column.
      const isa::WeightRecord r = weight_record(e.graph, node, e.machine.mx.columns);
      s_.weight_column_bytes = std::max(ceil_div(s_.k() / r.rows * r.bytes(), r.columns), s_.k() * operand_bytes(c_.format) * e.machine.dram.bytes_per_cycle / e.machine.dma.bytes_per_cycle);
      s_.panel_columns = 8 / std::min<int64_t>(8, r.bits);
    }
    s_.drain_slots = issue_slots(map_.pre);
    if (then_) s_.drain_slots += issue_slots(std::get<Map>(then_->op).pre);
    if (then_ && !e.resident(then_->outputs[0])) s_.extra_bytes += bytes_of(e.graph.value(then_->outputs[0]).type);
    for (size_t k = 0; k < drain.inputs.size(); ++k) {
      if (drain.inputs[k] == node.outputs[0]) acc_input_ = static_cast<int>(k);
      else if (!e.resident(drain.inputs[k]) && element_count(e.graph.value(drain.inputs[k]).shape) > s_.columns) s_.extra_bytes += bytes_of(e.graph.value(drain.inputs[k]).type);
    }
  }

  const ContractShape& shape() const { return s_; }

  void emit(const ContractTile& tile) {
    t_ = tile;
    weights_ = {}, pixels_ = {};
    inputs_.clear();
    for (ValueId v : drain_.inputs) inputs_.push_back(std::make_unique<StagedInput>(e_, v));
    then_inputs_.clear();
    for (size_t k = 0; then_ && k < then_->inputs.size(); ++k) then_inputs_.push_back(std::make_unique<StagedInput>(e_, then_->inputs[k]));
    bias_address_ = -1;
    if (node_.inputs.size() > 2) load_bias();
    if (parts_of(s_, t_) > 1) reserve();
    for (int64_t g = 0; g < s_.groups; ++g) emit_group(g);
    for (Held* h : {&weights_, &pixels_}) {
      if (h->places.empty()) release(*h);
      for (int64_t place : h->places) e_.ring.free(place);
    }
    inputs_.clear(), then_inputs_.clear();
    e_.ring.end_tiles();
    if (bias_address_ >= 0) e_.ring.free(bias_address_);
  }

 private:
  /// A tile in the ring, and what it holds: wherever there is room, or in turn in one of several places.
  struct Held {
    std::vector<int64_t> key, places;
    int64_t address = -1;
    size_t turn = 0;
  };
  void release(Held& h) {
    if (h.address >= 0) e_.ring.free(h.address);
    h.address = -1;
  }
  /// True when the tile has to be loaded anew; then it has `bytes` of the ring.
  bool hold(Held& h, std::vector<int64_t> key, int64_t bytes) {
    if (h.address >= 0 && h.key == key) return false;
    if (h.places.empty()) release(h), h.address = e_.allocate(bytes, Ring::Side::kMatrix);
    else h.address = h.places[h.turn++ % h.places.size()];
    h.key = std::move(key);
    return true;
  }

  /// Places for parts of A and of weights, in lock groups of their own, for LD to fill one while MX reads another; and two for whole weights if there is room.
  void reserve() {
    constexpr size_t kMostParts = 4;
    const int64_t group = e_.machine.group_bytes(), part = s_.a_resident ? 0 : input_tile_bytes(s_, t_.rows, t_.cols, t_.depth, t_.by_taps);
    const bool packed = b_.constant || c_.group_rows;
    const int64_t weights = s_.weights_dynamic_resident ? 0 : (t_.weights_in_parts ? t_.depth : s_.k()) * (packed ? ceil_div(t_.weight_columns, t_.panel) * t_.panel : t_.weight_columns) * operand_bytes(c_.format);
    const int64_t drained = 2 * t_.block_rows * t_.block_cols * t_.block_columns * (s_.extra_bytes + (s_.out_resident ? 0 : s_.out_bytes));
    const auto add = [&](Held& h, int64_t bytes, size_t most) {
      const Ring before = e_.ring;
      const int64_t at = bytes == 0 || h.places.size() >= most ? -1 : e_.ring.allocate(ceil_div(bytes, group) * group, Ring::Side::kMatrix);
      // What the drain needs has room as well.
      if (Ring after = e_.ring; at >= 0 && after.allocate(drained, Ring::Side::kVector) >= 0) return h.places.push_back(at), true;
      e_.ring = before;
      return false;
    };
    if (weights && !add(weights_, weights, 1)) throw RingFull{};
    if (t_.weights_in_parts && !add(weights_, weights, 2)) throw RingFull{};
    add(pixels_, part, 2), add(pixels_, part, 2);
    if (part && pixels_.places.size() < 2) throw RingFull{};
    if (s_.groups * ceil_div(s_.columns, t_.weight_columns) > 1) add(weights_, weights, 2);
    while (add(pixels_, part, kMostParts) || (t_.weights_in_parts && add(weights_, weights, kMostParts))) {
    }
  }

  void load_bias() {
    const Value& v = e_.graph.value(node_.inputs[2]);
    bias_address_ = e_.allocate(stored_bytes(v), Ring::Side::kMatrix);
    Emitter::Copy c;
    c.src_address = kConstantBit + e_.constant_offset(node_.inputs[2], 0, stored_bytes(v));
    c.dst_address = static_cast<uint64_t>(bias_address_);
    c.element_bytes = 4, c.extents = v.shape, c.src_strides = {4}, c.dst_strides = {4};
    e_.copy(c);
  }

  /// Tiles of weights stay while the tiles of all images pass, or the other way round.
  void emit_group(int64_t g) {
    const int64_t row_tiles = ceil_div(s_.out_h, t_.rows), col_tiles = ceil_div(s_.out_w, t_.cols), tiles = s_.images * row_tiles * col_tiles;
    const int64_t weight_tiles = ceil_div(s_.columns, t_.weight_columns);
    auto visit = [&](int64_t w, int64_t at) {
      const int64_t n = at / (row_tiles * col_tiles), p = at % (row_tiles * col_tiles), row = p / col_tiles * t_.rows, col = p % col_tiles * t_.cols;
      const Columns columns{w * t_.weight_columns, std::min(t_.weight_columns, s_.columns - w * t_.weight_columns)};
      emit_tile(n, g, {row, col, std::min(t_.rows, s_.out_h - row), std::min(t_.cols, s_.out_w - col)}, columns);
    };
    for (int64_t i = 0; i < (t_.weights_outer ? weight_tiles : tiles); ++i) {
      for (int64_t j = 0; j < (t_.weights_outer ? tiles : weight_tiles); ++j) t_.weights_outer ? visit(i, j) : visit(j, i);
    }
  }

  void emit_tile(int64_t n, int64_t g, const Pixels& pixels, const Columns& columns) {
    if (!t_.weights_in_parts) locate_weights(n, g, columns, {0, s_.k()});
    if (parts_of(s_, t_) > 1) return emit_block(n, g, pixels, columns);
    locate_pixels(n, g, pixels, columns, {0, s_.k_channels});
    for (int64_t r = 0; r < pixels.rows; r += t_.block_rows) {
      for (int64_t x = 0; x < pixels.cols; x += t_.block_cols) {
        for (int64_t o = 0; o < columns.count; o += t_.block_columns) {
          emit_block(n, g, {pixels.row + r, pixels.col + x, std::min(t_.block_rows, pixels.rows - r), std::min(t_.block_cols, pixels.cols - x)},
                     {columns.first + o, std::min(t_.block_columns, columns.count - o)});
        }
      }
    }
  }

  /// Sets b_address_ and B's pitches for these columns of group g, and these channels of a run-time B.
  void locate_weights(int64_t n, int64_t g, const Columns& columns, const Depth& depth) {
    const int64_t element = operand_bytes(c_.format), k = s_.k(), p = t_.panel;
    const int64_t batch = b_.shape[0] == 1 ? 0 : n;
    if (c_.group_rows) return locate_grouped_weights(columns);
    if (b_.constant) {
      const int64_t set = batch * s_.groups + g, sets = b_.shape[0] * s_.groups;
      const int64_t panels = ceil_div(s_.columns, p), first = columns.first / p, count = ceil_div(columns.count, p);
      b_tile_pitch_ = k * p * element, b_row_pitch_ = p * element, b_column_pitch_ = element;
      const int64_t bytes = count * k * p * element;
      if (hold(weights_, {set, columns.first}, bytes)) {
        Emitter::Copy c;
        c.src_address = kConstantBit + e_.constant_offset(node_.inputs[1], p, sets * panels * k * p * element) + static_cast<uint64_t>((set * panels + first) * k * p * element);
        c.dst_address = static_cast<uint64_t>(weights_.address);
        c.element_bytes = 1, c.extents = {bytes}, c.src_strides = {1}, c.dst_strides = {1};
        e_.copy(c);
      }
      b_address_ = static_cast<uint64_t>(weights_.address);
      b_first_ = columns.first;
      return;
    }
    // A run-time B is [K, N] or [N, K] per image and group, wherever these lie; only matrix products have one.
    const auto strides = e_.strides(node_.inputs[1]);
    const int64_t base = e_.offset(node_.inputs[1], {&batch, 1}) + g * strides[1], row = strides[c_.b_transposed ? 5 : 4], column = strides[c_.b_transposed ? 4 : 5];
    if (s_.weights_dynamic_resident) {
      b_address_ = e_.location(node_.inputs[1]).address + static_cast<uint64_t>(base);
      b_row_pitch_ = row, b_column_pitch_ = column, b_tile_pitch_ = e_.machine.mx.columns * column, b_first_ = 0;
      return;
    }
    const bool rows_inside = row < column;  // K is the inner one: it stays so, for any order is read at the same speed
    const int64_t dense_row = rows_inside ? element : columns.count * element, dense_column = rows_inside ? depth.count * element : element;
    if (hold(weights_, {batch, g, columns.first, depth.first}, depth.count * columns.count * element)) {
      Emitter::Copy c;
      c.src_address = e_.location(node_.inputs[1]).address + static_cast<uint64_t>(base + columns.first * column + depth.first * row);
      c.dst_address = static_cast<uint64_t>(weights_.address);
      c.element_bytes = element;
      if (rows_inside) c.extents = {columns.count, depth.count}, c.src_strides = {column, row}, c.dst_strides = {dense_column, dense_row};
      else c.extents = {depth.count, columns.count}, c.src_strides = {row, column}, c.dst_strides = {dense_row, dense_column};
      e_.copy(c);
    }
    b_address_ = static_cast<uint64_t>(weights_.address);
    b_row_pitch_ = dense_row, b_column_pitch_ = dense_column, b_tile_pitch_ = e_.machine.mx.columns * dense_column, b_first_ = columns.first, b_channel_ = depth.first;
  }

  /// The same where B holds codes of few bits: they become floats on their way into the ring.
  void locate_grouped_weights(const Columns& columns) {
    const int64_t element = operand_bytes(c_.format), k = s_.k(), p = t_.panel;
    const isa::WeightRecord r = weight_record(e_.graph, node_, p);
    const int64_t groups = k / r.rows, panels = ceil_div(s_.columns, p), first = columns.first / p, count = ceil_div(columns.count, p), bytes = count * k * p * element;
    b_tile_pitch_ = k * p * element, b_row_pitch_ = p * element, b_column_pitch_ = element;
    if (hold(weights_, {columns.first}, bytes)) {
      isa::Dequantize d;
      d.bits = static_cast<uint8_t>(r.bits), d.half_scales = r.scale_bytes == 2, d.to = static_cast<uint8_t>(c_.format);
      d.columns = static_cast<uint16_t>(p), d.rows = static_cast<uint16_t>(r.rows), d.records = static_cast<uint32_t>(count * groups);
      d.src_imm = kConstantBit + e_.constant_offset(node_.inputs[1], p, panels * groups * r.bytes(), &node_) + static_cast<uint64_t>(first * groups * r.bytes());
      d.dst_imm = static_cast<uint64_t>(weights_.address);
      e_.push(d, {{isa::Space::kScratchpad, d.dst_imm, d.dst_imm + static_cast<uint64_t>(bytes), true}, {isa::Space::kDram, d.src_imm, d.src_imm + static_cast<uint64_t>(count * groups * r.bytes()), false}});
    }
    b_address_ = static_cast<uint64_t>(weights_.address);
    b_first_ = columns.first;
  }

  /// Sets where these channels of the image tile under these pixels lie.
  void locate_pixels(int64_t n, int64_t g, const Pixels& p, const Columns& columns, const Depth& depth) {
    const int64_t element = s_.a_bytes;
    const int64_t c0 = c_.depthwise ? columns.first / s_.multiplier : g * s_.k_channels + depth.first;
    const int64_t channels = c_.depthwise ? ceil_div(columns.count, s_.multiplier) : depth.count;
    const int64_t image = e_.offset(node_.inputs[0], {&n, 1}), row_pitch = a_strides_[1], pixel_pitch = a_strides_[2], channel_pitch = a_strides_[3];
    if (s_.a_resident) {
      a_address_ = e_.location(node_.inputs[0]).address + static_cast<uint64_t>(image);
      a_row_ = 0, a_col_ = 0, a_channel_ = 0, a_rows_ = s_.in_h, a_cols_ = s_.in_w, a_row_pitch_ = row_pitch, a_pixel_pitch_ = pixel_pitch, a_pixel_bytes_ = s_.in_c * element;
      return;
    }
    const int64_t top = first_row(p, depth), left = first_column(p, depth), taps_h = t_.by_taps ? 1 : c_.kernel_h, taps_w = t_.by_taps ? 1 : c_.kernel_w;
    const int64_t r0 = std::clamp<int64_t>(top, 0, s_.in_h), x0 = std::clamp<int64_t>(left, 0, s_.in_w);
    const int64_t r1 = std::clamp<int64_t>(top + (p.rows - 1) * c_.stride_h + (taps_h - 1) * c_.dilation_h + 1, r0, s_.in_h);
    const int64_t x1 = std::clamp<int64_t>(left + (p.cols - 1) * c_.stride_w + (taps_w - 1) * c_.dilation_w + 1, x0, s_.in_w);
    a_row_ = r0, a_col_ = x0, a_channel_ = c0, a_rows_ = r1 - r0, a_cols_ = x1 - x0, a_pixel_pitch_ = a_pixel_bytes_ = channels * element, a_row_pitch_ = a_cols_ * a_pixel_pitch_;
    if (t_.by_taps && a_rows_ * a_cols_ == 0) return void(a_address_ = static_cast<uint64_t>(pixels_.places.front()));  // in the padding: nothing is read
    if (hold(pixels_, {n, c0, channels, r0, r1, x0, x1}, a_rows_ * a_row_pitch_)) {
      Emitter::Copy c;
      const bool constant = a_.constant != nullptr;
      c.src = constant ? isa::Space::kDram : e_.location(node_.inputs[0]).space;
      c.src_address = (constant ? kConstantBit + e_.constant_offset(node_.inputs[0], 0, stored_bytes(a_)) : e_.location(node_.inputs[0]).address) +
                      static_cast<uint64_t>(image + r0 * row_pitch + x0 * pixel_pitch + c0 * channel_pitch);
      c.dst_address = static_cast<uint64_t>(pixels_.address);
      c.element_bytes = element, c.extents = {a_rows_, a_cols_, channels}, c.src_strides = {row_pitch, pixel_pitch, channel_pitch}, c.dst_strides = {a_row_pitch_, a_pixel_pitch_, element};
      e_.copy(c);
    }
    a_address_ = static_cast<uint64_t>(pixels_.address);
  }

  /// Of A, under the first pixel's first tap, or the tap whose turn it is; negative in the padding.
  int64_t first_row(const Pixels& p, const Depth& depth) const { return p.row * c_.stride_h - c_.pad_top + depth.tap / c_.kernel_w * c_.dilation_h; }
  int64_t first_column(const Pixels& p, const Depth& depth) const { return p.col * c_.stride_w - c_.pad_left + depth.tap % c_.kernel_w * c_.dilation_w; }

  isa::MatrixDesc descriptor(const Depth& depth) const {
    isa::MatrixDesc d;
    d.format = static_cast<uint8_t>(c_.format);
    d.a_signed = a_.type != DType::kU8, d.b_signed = b_.type != DType::kU8;
    d.depthwise = c_.depthwise, d.multiplier = static_cast<uint8_t>(s_.multiplier);
    d.a_zero = static_cast<int16_t>(c_.a_zero), d.b_zero = static_cast<int16_t>(c_.b_zero);
    d.kernel_h = static_cast<uint16_t>(t_.by_taps ? 1 : c_.kernel_h), d.kernel_w = static_cast<uint16_t>(t_.by_taps ? 1 : c_.kernel_w), d.stride_h = static_cast<uint16_t>(c_.stride_h), d.stride_w = static_cast<uint16_t>(c_.stride_w);
    d.dilation_h = static_cast<uint16_t>(c_.dilation_h), d.dilation_w = static_cast<uint16_t>(c_.dilation_w);
    d.channels = static_cast<uint32_t>(depth.count);
    d.a_row_pitch = static_cast<uint32_t>(a_row_pitch_), d.a_pixel_pitch = static_cast<uint32_t>(a_pixel_pitch_), d.a_channel_pitch = static_cast<uint32_t>(s_.a_bytes);
    d.in_columns = static_cast<uint32_t>(a_cols_);
    d.b_tile_pitch = static_cast<uint32_t>(b_tile_pitch_), d.b_row_pitch = static_cast<uint32_t>(b_row_pitch_), d.b_column_pitch = static_cast<uint32_t>(b_column_pitch_);
    return d;
  }

  /// A block and its drain; where a tile holds a part of the channels, part by part.
  void emit_block(int64_t n, int64_t g, const Pixels& p, const Columns& o) {
    const int64_t half = e_.next_half, first_channel = g * s_.columns + o.first;
    e_.next_half ^= 1;
    const uint32_t acc = static_cast<uint32_t>(half * e_.machine.accumulator_elements());
    for (int64_t tap = 0; tap < (t_.by_taps ? s_.taps() : 1); ++tap) {
      for (int64_t k = 0; k < s_.k_channels; k += t_.depth) {
        const Depth depth{k, std::min(t_.depth, s_.k_channels - k), tap};
        if (parts_of(s_, t_) > 1) locate_pixels(n, g, p, o, depth);
        if (t_.weights_in_parts) locate_weights(n, g, o, depth);
        emit_products(g, p, o, depth, acc);
      }
    }
    drain(n, p, first_channel, o.count, {acc_input_, acc, p.rows * p.cols, p.cols, {}});
  }

  void emit_products(int64_t g, const Pixels& p, const Columns& o, const Depth& depth, uint32_t acc) {
    const int64_t columns = e_.machine.mx.columns, slots = ceil_div(o.count, columns) * columns;
    isa::Matrix m;
    m.acc = acc;
    m.out_rows = static_cast<uint16_t>(p.rows), m.out_columns = static_cast<uint16_t>(p.cols), m.n = static_cast<uint16_t>(o.count);
    m.in_rows = static_cast<uint32_t>(a_rows_);
    m.row_origin = static_cast<int32_t>(first_row(p, depth) - a_row_), m.column_origin = static_cast<int32_t>(first_column(p, depth) - a_col_);
    const int64_t c0 = (c_.depthwise ? o.first / s_.multiplier : g * s_.k_channels + depth.first) - a_channel_;
    m.a_imm = static_cast<uint32_t>(a_address_ + static_cast<uint64_t>(c0 * s_.a_bytes));
    const int64_t at = o.first - b_first_;
    m.b_imm = static_cast<uint32_t>(b_address_ + static_cast<uint64_t>((b_.constant ? at / t_.panel * b_tile_pitch_ : at * b_column_pitch_) + (depth.tap * s_.k_channels + depth.first - b_channel_) * b_row_pitch_));
    const bool begins = depth.first == 0 && depth.tap == 0, biased = bias_address_ >= 0 && begins;
    if (biased) m.init = isa::Init::kBias, m.bias_imm = static_cast<uint32_t>(bias_address_ + 4 * (g * s_.columns + o.first));
    else if (!begins) m.init = isa::Init::kKeep;
    const isa::MatrixDesc desc = descriptor(depth);
    ByteRanges ranges = {{isa::Space::kScratchpad, a_address_, a_address_ + a_reach(a_rows_), false},
                         {isa::Space::kScratchpad, m.b_imm, m.b_imm + static_cast<uint64_t>(isa::weights_reach(desc, o.count, e_.machine.mx.columns)), false},
                         {isa::Space::kAccumulator, 4ull * m.acc, 4ull * (m.acc + static_cast<uint64_t>(p.rows * p.cols * slots)), true}};
    if (biased) ranges.push_back({isa::Space::kScratchpad, m.bias_imm, m.bias_imm + static_cast<uint64_t>(4 * o.count), false});
    if (s_.a_resident) narrow_a_range(p, ranges[0]);
    e_.push(m, ranges, e_.describe(desc));
  }

  /// Bytes from the first of A's to the end of this many rows.
  uint64_t a_reach(int64_t rows) const {
    return rows < 1 || a_cols_ < 1 ? 1 : static_cast<uint64_t>((rows - 1) * a_row_pitch_ + (a_cols_ - 1) * a_pixel_pitch_ + a_pixel_bytes_);
  }

  /// A resident image is only touched in the rows under the block: narrower locks let other engines work on the rest.
  void narrow_a_range(const Pixels& p, ByteRange& range) const {
    const int64_t first = std::clamp<int64_t>(p.row * c_.stride_h - c_.pad_top, 0, s_.in_h - 1);
    const int64_t last = std::clamp<int64_t>((p.row + p.rows - 1) * c_.stride_h + (c_.kernel_h - 1) * c_.dilation_h - c_.pad_top, first, s_.in_h - 1);
    const uint64_t lo = a_address_ + static_cast<uint64_t>(first * a_row_pitch_);
    range = {isa::Space::kScratchpad, lo, lo + a_reach(last - first + 1), false};
  }

  void drain(int64_t n, const Pixels& p, int64_t channel, int64_t channels, const AccumulatorTile& acc) {
    const std::vector<int64_t> lo = {n, p.row, p.col, channel}, extent = {1, p.rows, p.cols, channels};
    std::vector<Tile> tiles(drain_.inputs.size());
    if (s_.extra_bytes && e_.preferences.tiles_in_groups) e_.ring.begin_vector_tile();
    for (size_t k = 0; k < drain_.inputs.size(); ++k) {
      if (static_cast<int>(k) == acc.input) continue;
      const Value& v = e_.graph.value(drain_.inputs[k]);
      // Small constants are loaded whole, once per layer.
      const bool whole = v.constant && stored_bytes(v) <= e_.ring.bytes() / 16;
      tiles[k] = inputs_[k]->get(whole ? Box{std::vector<int64_t>(v.shape.size(), 0), v.shape} : input_box(map_, k, v.shape, lo, extent));
    }
    StagedOutput output(e_, drain_.outputs[0]);
    const Box box{lo, extent};
    const Tile made = output.get(box);
    emit_vector(e_, drain_, tiles, made, lo, extent, acc);
    if (then_) follow(made, box);
    output.store(box);
  }

  /// The map of what the drain made of this block.
  void follow(const Tile& made, const Box& box) {
    std::vector<Tile> tiles;
    for (size_t k = 0; k < then_->inputs.size(); ++k) {
      const Shape& shape = e_.graph.value(then_->inputs[k]).shape;
      tiles.push_back(then_->inputs[k] == drain_.outputs[0] ? made : then_inputs_[k]->get({std::vector<int64_t>(shape.size(), 0), shape}));
    }
    StagedOutput output(e_, then_->outputs[0]);
    emit_vector(e_, *then_, tiles, output.get(box), box.lo, box.extent, {});
    output.store(box);
  }

  Emitter& e_;
  const Node &node_, &drain_;
  const Node* then_;
  const Contract& c_;
  const Map& map_;
  const Value &a_, &b_;
  ContractShape s_;
  std::vector<int64_t> a_strides_;  ///< bytes
  ContractTile t_;
  int acc_input_ = 0;
  Held weights_, pixels_;
  std::vector<std::unique_ptr<StagedInput>> inputs_, then_inputs_;
  int64_t bias_address_ = -1;
  uint64_t a_address_ = 0, b_address_ = 0;
  int64_t a_row_ = 0, a_col_ = 0, a_channel_ = 0, a_rows_ = 0, a_cols_ = 0, a_row_pitch_ = 0, a_pixel_pitch_ = 0, a_pixel_bytes_ = 0;
  int64_t b_tile_pitch_ = 0, b_row_pitch_ = 0, b_column_pitch_ = 0, b_first_ = 0, b_channel_ = 0;
};

}  // namespace

isa::WeightRecord weight_record(const Graph& graph, const Node& contract, int64_t panel) {
  return {std::get<Contract>(contract.op).group_rows, panel, integer_kind(graph.value(contract.inputs[1]).type).bits, bytes_of(graph.value(contract.inputs[3]).type)};
}

void emit_contract(Emitter& e, const Node& contract, const Node& drain, const Node* then) {
  if (element_count(e.graph.value(drain.outputs[0]).shape) == 0) return;
  const auto mark = e.mark();
  ContractEmitter emitter(e, contract, drain, then);
  // Biases, drain constants and lock-group alignment take part of the ring.
  for (const ContractTile& tile : e.tiles.find(emitter.shape(), e.ring.bytes() - 64)) {
    try {
      return emitter.emit(tile);
    } catch (const RingFull&) {
      e.rewind(mark);
    }
  }
  const ContractShape& s = emitter.shape();
  fail(ErrorCode::kResource, "node '" + contract.name + "'",
       "one output column of this contraction needs " + std::to_string(s.k() * operand_bytes(s.contract->format)) + " bytes of weights and " +
           std::to_string(s.a_resident ? 0 : input_tile_bytes(s, 1, 1, s.k_channels, false)) + " of input at a time",
       "at most " + std::to_string(e.ring.bytes()) + " bytes of scratchpad", "use a machine with more scratchpad, or a narrower precision");
}

}  // namespace systole
