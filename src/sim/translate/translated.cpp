#include "sim/translate/translated.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>

#include "base/parallel.h"
#include "sim/translate/host.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/memory_flow.h"
#include "sim/translate/vector_code.h"

namespace systole {

namespace {

using isa::Space;

template <class T>
void append(std::string& key, const T& v) {
  static_assert(std::is_arithmetic_v<T>);
  key.append(reinterpret_cast<const char*>(&v), sizeof v);
}
void append(std::string& key, const isa::CopyDesc& d) {
  append(key, d.element_bytes);
  for (size_t i = 0; i < isa::kCopyDims; ++i) append(key, d.extents[i]), append(key, d.src_strides[i]), append(key, d.dst_strides[i]);
}
void append(std::string& key, const isa::DequantizeOp& d) {
  for (int64_t v : {d.records, d.record.rows, d.record.columns, d.record.bits, d.record.scale_bytes, int64_t{d.to}}) append(key, v);
}
/// What the packed order of B depends on.
std::string layout_key(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  std::string key;
  for (uint32_t v : {uint32_t{d.format}, uint32_t{d.depthwise}, uint32_t{d.b_signed}, uint32_t(uint16_t(d.b_zero)), uint32_t{d.kernel_h}, uint32_t{d.kernel_w}, d.channels, d.b_tile_pitch, d.b_row_pitch, d.b_column_pitch, op.n}) append(key, v);
  return key;
}

class Translator {
 public:
  Translator(Functional& model, TaskGraph& graph) : model_(model), program_(model.program()), memory_(model.memory()), columns_(model.machine().mx.columns), graph_(graph) {
    constants_lo_ = static_cast<int64_t>(program_.constants_address), constants_hi_ = constants_lo_ + static_cast<int64_t>(program_.constants.size());
  }

  void translate() {
    const auto& ops = model_.sequence().ops;
    for (const auto& op : ops) note_constant_writes(op);
    for (const auto& op : ops) std::visit(Overload{[](const isa::DescriptorWrite&) {}, [&](const auto& o) { add(op, o); }}, op.op);
    emit();
  }

 private:
  /// A task before it is known whether anything needs it.
  struct Draft {
    std::unique_ptr<Kernel> kernel;
    std::vector<uint32_t> after;
    std::vector<std::pair<int64_t, int64_t>> constants = {};  ///< DRAM bytes of constants that it reads
    std::shared_ptr<const PackedB> operand = {};              ///< B where it is constant
    const decltype(isa::Dispatched::op)* constant_load = nullptr;  ///< from constants to the scratchpad: droppable, and known when packing
  };

  void note_constant_writes(const isa::Dispatched& op) {
    for (const isa::Touch& t : isa::footprint(op, columns_)) {
      if (t.write && t.space == Space::kDram && t.lo < constants_hi_ && t.hi > constants_lo_) constants_written_ = true;
    }
  }
  bool in_constants(const isa::Touch& t) const { return !constants_written_ && t.space == Space::kDram && t.lo >= constants_lo_ && t.hi <= constants_hi_; }

  /// Notes the part of a reading that lies in constants.
  void read_constants(const isa::Touch& t, Draft& draft) const {
    const int64_t lo = std::max(t.lo, constants_lo_), hi = std::min(t.hi, constants_hi_);
    if (lo < hi) draft.constants.emplace_back(lo, hi);
  }
  /// Constants that a task still reads from DRAM go into the image.
  void place(const Draft& d) {
    for (const auto& [lo, hi] : d.constants) model_.place_constants(lo, hi);
  }
  uint32_t next() const { return static_cast<uint32_t>(drafts_.size()); }
  /// Orders the next draft by what `op` touches, but for one reading of scratchpad bytes [except_lo, except_hi).
  void touch(const isa::Dispatched& op, Draft& draft, bool dense, int64_t except_lo = 0, int64_t except_hi = 0) {
    std::vector<uint32_t>& after = draft.after;
    const auto touches = isa::footprint(op, columns_);
    bool excepted = false;
    for (const isa::Touch& t : touches) {
      if (t.write) continue;
      if (t.space == Space::kDram) read_constants(t, draft);
      if (in_constants(t)) continue;
      if (!excepted && t.space == Space::kScratchpad && t.lo == except_lo && t.hi == except_hi) excepted = true;
      else flow_.read(t.space, t.lo, t.hi, next(), after);
    }
    for (const isa::Touch& t : touches) {
      if (t.write) flow_.write(t.space, t.lo, t.hi, next(), dense, after);
    }
  }

  void add(const isa::Dispatched& op, const isa::CopyOp& o) { add_load(op, writes_densely(*o.desc), copy_kernel(memory_, o)); }
  void add(const isa::Dispatched& op, const isa::DequantizeOp& o) { add_load(op, true, dequantize_kernel(memory_, o)); }
  void add_load(const isa::Dispatched& op, bool dense, std::unique_ptr<Kernel> kernel) {
    Draft draft;
    const auto touches = isa::footprint(op, columns_);
    touch(op, draft, dense);
    if (touches.size() == 2 && touches[0].space == Space::kScratchpad && in_constants(touches[1])) draft.constant_load = &op.op;
    draft.kernel = std::move(kernel);
    drafts_.push_back(std::move(draft));
  }

  void add(const isa::Dispatched& op, const isa::VectorOp& o) {
    Draft draft;
    touch(op, draft, writes_densely(*o.desc));
    draft.kernel = vector_kernel(memory_, o, codes_);
    drafts_.push_back(std::move(draft));
  }

  void add(const isa::Dispatched& op, const isa::MatrixOp& o) {
    Draft draft;
    if (!has_matrix_kernel(o)) {
      touch(op, draft, false);
      draft.kernel = matrix_kernel(memory_, o, columns_, nullptr);
      drafts_.push_back(std::move(draft));
      return;
    }
    const auto [lo, hi] = isa::b_bytes(o, columns_);
    std::shared_ptr<const PackedB> packed = constant_b(o, lo, hi);
    const bool constant = packed != nullptr;
    if (!constant) {
      const auto [pack, task] = run_time_b(o, lo, hi);
      packed = pack;
      draft.after.push_back(task);
    }
    const uint64_t a_version = has_tile_kernels() ? version_of_a(o) : 0;
    touch(op, draft, false, lo, hi);
    if (constant) draft.operand = packed;
    draft.kernel = matrix_kernel(memory_, o, columns_, std::move(packed), a_version);
    drafts_.push_back(std::move(draft));
  }

  /// The same number for instructions that find the same bytes of A, in the same geometry.
  uint64_t version_of_a(const isa::MatrixOp& o) {
    const isa::MatrixDesc& d = *o.desc;
    std::string key;
    for (uint32_t v : {uint32_t{d.format}, uint32_t(uint16_t(d.a_zero)), uint32_t{d.kernel_h}, uint32_t{d.kernel_w}, uint32_t{d.stride_h}, uint32_t{d.stride_w}, uint32_t{d.dilation_h}, uint32_t{d.dilation_w}, d.channels, d.in_columns, d.a_channel_pitch,
                       d.a_pixel_pitch, d.a_row_pitch, o.out_rows, o.out_columns, o.in_rows, uint32_t(o.row_origin), uint32_t(o.column_origin)})
      append(key, v);
    append(key, o.a);
    const auto [lo, hi] = isa::a_bytes(o);
    for (uint32_t w : flow_.writers(Space::kScratchpad, lo, hi)) append(key, w);
    static std::atomic<uint64_t> numbers{0};  // of all programs
    uint64_t& version = a_versions_[key];
    if (version == 0) version = ++numbers;
    return version;
  }

  /// B packed once, if every byte of [lo, hi) was copied from constants; else null.
  std::shared_ptr<const PackedB> constant_b(const isa::MatrixOp& o, int64_t lo, int64_t hi) {
    std::string key = layout_key(o);
    const auto writers = flow_.writers(Space::kScratchpad, lo, hi);
    for (uint32_t w : writers) {
      if (w == MemoryFlow::kNobody || !drafts_[w].constant_load) return nullptr;
      std::visit(Overload{[](const auto&) {}, [&](const isa::CopyOp& c) { append(key, c.src_address), append(key, static_cast<int64_t>(c.dst_address) - lo), append(key, *c.desc); },
                          [&](const isa::DequantizeOp& d) { append(key, d.src_address), append(key, static_cast<int64_t>(d.dst_address) - lo), append(key, d); }},
                 *drafts_[w].constant_load);
    }
    auto& kept = constant_packs_[key];
    if (kept) return kept;
    // The loads again, into a scratchpad of our own.
    if (image_.size() == 0) image_ = ZeroedMemory(memory_.scratchpad.size(), true);
    auto constant = [&](uint64_t address) { return program_.constants.data() + (address - program_.constants_address); };
    for (uint32_t w : writers) {
      std::visit(Overload{[](const auto&) {}, [&](const isa::CopyOp& c) { copy_between(c, constant(c.src_address), image_.data() + c.dst_address); },
                          [&](const isa::DequantizeOp& d) {
                            parallel_for(d.records, 8, [&](int64_t begin, int64_t end) { dequantize_records(d, constant(d.src_address), image_.data() + d.dst_address, begin, end); });
                          }},
                 *drafts_[w].constant_load);
    }
    auto packed = std::make_shared<PackedB>(packed_memory_);
    pack_b(o, columns_, image_.data() + lo, *packed);
    return kept = std::move(packed);
  }

  /// B packed by a task of its own, shared by the instructions that read the same bytes.
  std::pair<std::shared_ptr<const PackedB>, uint32_t> run_time_b(const isa::MatrixOp& o, int64_t lo, int64_t hi) {
    std::string key = layout_key(o);
    append(key, lo);
    for (uint32_t w : flow_.writers(Space::kScratchpad, lo, hi)) append(key, w);
    const auto found = run_time_packs_.find(key);
    if (found != run_time_packs_.end()) return found->second;
    auto packed = std::make_shared<PackedB>(packed_memory_);
    Draft draft;
    flow_.read(Space::kScratchpad, lo, hi, next(), draft.after);
    draft.kernel = pack_kernel(memory_, o, columns_, packed);
    const std::pair<std::shared_ptr<const PackedB>, uint32_t> made = {packed, next()};
    drafts_.push_back(std::move(draft));
    run_time_packs_.emplace(std::move(key), made);
    return made;
  }

  void emit() {
    std::vector<uint32_t> number(drafts_.size(), MemoryFlow::kNobody);
    for (size_t i = 0; i < drafts_.size(); ++i) {
      Draft& d = drafts_[i];
      if (d.constant_load && !flow_.used(static_cast<uint32_t>(i))) {
        d.after = emitted(d.after, number);  // nobody reads it from the scratchpad; who comes after it waits for these
        continue;
      }
      place(d);
      std::span<const uint8_t> operand;
      if (d.operand) operand = {d.operand->bytes.data(), d.operand->bytes.size()};
      number[i] = graph_.add(std::move(d.kernel), emitted(d.after, number), operand);
    }
  }
  /// Tasks of the graph for drafts; for a dropped copy, what it would have waited for.
  std::vector<uint32_t> emitted(const std::vector<uint32_t>& drafts, const std::vector<uint32_t>& number) const {
    std::vector<uint32_t> list;
    for (uint32_t a : drafts) {
      if (number[a] != MemoryFlow::kNobody) list.push_back(number[a]);
      else list.insert(list.end(), drafts_[a].after.begin(), drafts_[a].after.end());
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    return list;
  }

  Functional& model_;
  const isa::Program& program_;
  Memory& memory_;
  int64_t columns_;
  TaskGraph& graph_;
  int64_t constants_lo_ = 0, constants_hi_ = 0;
  bool constants_written_ = false;
  MemoryFlow flow_;
  VectorCodes codes_;
  std::vector<Draft> drafts_;
  const std::shared_ptr<PackedMemory> packed_memory_ = std::make_shared<PackedMemory>();
  std::map<std::string, uint64_t> a_versions_;
  std::map<std::string, std::shared_ptr<const PackedB>> constant_packs_;
  std::map<std::string, std::pair<std::shared_ptr<const PackedB>, uint32_t>> run_time_packs_;
  ZeroedMemory image_;
};

}  // namespace

Translated::Translated(const isa::Program& program, const Machine& machine) : model_(program, machine, Functional::NoConstants{}) {
  if (!has_kernels()) {
    model_.place_constants(static_cast<int64_t>(program.constants_address), static_cast<int64_t>(program.constants_address + program.constants.size()));
    return;
  }
  graph_ = std::make_unique<TaskGraph>();
  Translator(model_, *graph_).translate();
}
Translated::~Translated() = default;

std::vector<Tensor> Translated::run(const std::vector<Tensor>& inputs, WorkProfile* profile) {
  if (!graph_) return model_.run(inputs);
  model_.load(inputs);
  // More lists than cores would wait for each other by turns.
  const int most = std::min(thread_count(), usable_cores());
  if (profile) {
    graph_->run(most, profile);
    return model_.outputs();
  }
  const int threads = choice_.threads(most, static_cast<int64_t>(graph_->size()));
  graph_->prepare(threads);
  const auto begin = std::chrono::steady_clock::now();
  graph_->run(threads);
  choice_.took(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return model_.outputs();
}

}  // namespace systole
