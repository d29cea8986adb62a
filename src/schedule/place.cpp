#include "schedule/place.h"

#include <algorithm>

#include "base/error.h"

namespace systole {
namespace {

struct Block {
  int64_t address, bytes;
  int first, last;
};

/// First address of `bytes` (aligned) free during [first, last], below `limit`; -1 when there is none.
int64_t first_fit(const std::vector<Block>& blocks, int64_t bytes, int first, int last, int64_t align, int64_t limit) {
  std::vector<const Block*> overlapping;
  for (const Block& b : blocks) {
    if (b.first <= last && first <= b.last) overlapping.push_back(&b);
  }
  std::sort(overlapping.begin(), overlapping.end(), [](const Block* a, const Block* b) { return a->address < b->address; });
  int64_t at = 0;
  for (const Block* b : overlapping) {
    if (at + bytes <= b->address) break;
    at = std::max(at, (b->address + b->bytes + align - 1) / align * align);
  }
  return at + bytes <= limit ? at : -1;
}

constexpr int64_t kAlign = 64;

}  // namespace

int64_t stored_bytes(const Value& value) { return std::max<int64_t>(1, element_count(value.shape) * bytes_of(value.type)); }

Placement place(const Graph& graph, const Schedule& schedule, const Machine& machine, const Preferences& preferences) {
  Placement p;
  p.of.resize(graph.values.size());
  p.ring_bytes = preferences.ring_groups * machine.group_bytes();
  p.ring_base = machine.memory.scratchpad_bytes - p.ring_bytes;
  std::vector<bool> boundary(graph.values.size(), false);
  for (const auto* list : {&graph.inputs, &graph.outputs}) {
    for (ValueId v : *list) boundary[static_cast<size_t>(schedule.root[static_cast<size_t>(v)])] = true;
  }
  std::vector<Block> scratchpad, dram;
  int64_t boundary_end = 0;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (!boundary[v] || graph.values[v].constant) continue;
    p.of[v] = {isa::Space::kDram, static_cast<uint64_t>(boundary_end), true};
    boundary_end += (stored_bytes(graph.values[v]) + kAlign - 1) / kAlign * kAlign;
  }
  int64_t dram_end = boundary_end;
  size_t kept[2] = {0, 0};
  std::vector<ValueId> order;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (schedule.first[v] >= 0 && !boundary[v] && !graph.values[v].constant) order.push_back(static_cast<ValueId>(v));
  }
  std::stable_sort(order.begin(), order.end(), [&](ValueId a, ValueId b) { return schedule.first[static_cast<size_t>(a)] < schedule.first[static_cast<size_t>(b)]; });
  for (ValueId id : order) {
    const size_t v = static_cast<size_t>(id);
    const int first = schedule.first[v], last = schedule.last[v];
    for (auto* blocks : {&scratchpad, &dram}) {  // what is over before this one's first step is over for all that follow
      if (blocks->size() > 2 * kept[blocks == &dram] + 64) std::erase_if(*blocks, [&](const Block& b) { return b.last < first; }), kept[blocks == &dram] = blocks->size();
    }
    const int64_t bytes = stored_bytes(graph.values[v]), group = machine.group_bytes();
    // Large tensors start on a lock group of their own if they can: engines then work on different groups.
    int64_t at = bytes >= preferences.resident_align_bytes ? first_fit(scratchpad, bytes, first, last, group, p.ring_base) : -1;
    if (at < 0) at = first_fit(scratchpad, bytes, first, last, kAlign, p.ring_base);
    if (at >= 0) {
      scratchpad.push_back({at, bytes, first, last});
      p.of[v] = {isa::Space::kScratchpad, static_cast<uint64_t>(at), true};
      p.resident_peak_bytes = std::max(p.resident_peak_bytes, at + bytes);
      continue;
    }
    at = first_fit(dram, bytes, first, last, kAlign, machine.dram.capacity_bytes - boundary_end);
    if (at < 0) fail(ErrorCode::kResource, "machine '" + machine.name + "'", "DRAM of " + std::to_string(machine.dram.capacity_bytes) + " bytes is too small for the model's tensors");
    dram.push_back({at, bytes, first, last});
    p.of[v] = {isa::Space::kDram, static_cast<uint64_t>(boundary_end + at), true};
    dram_end = std::max(dram_end, boundary_end + at + bytes);
  }
  p.dram_bytes = static_cast<uint64_t>((dram_end + kAlign - 1) / kAlign * kAlign);
  return p;
}

}  // namespace systole
