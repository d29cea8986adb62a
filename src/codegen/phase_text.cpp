#include "codegen/phase_text.h"

#include "codegen/descriptors.h"
#include "isa/codec.h"

namespace systole {
namespace {

const char* space_name(isa::Space space) {
  constexpr const char* kNames[] = {"dram", "spm", "acc", "fill"};
  return kNames[static_cast<int>(space)];
}

}  // namespace

std::string print_placement(const Graph& graph, const Schedule& schedule, const Placement& placement) {
  std::string text;
  for (size_t s = 0; s < placement.ring_base.size(); ++s) {
    if (s == 0 || placement.ring_base[s] != placement.ring_base[s - 1]) text += "# ring from step " + std::to_string(s) + ": scratchpad bytes " + std::to_string(placement.ring_base[s]) + " to the end\n";
  }
  for (size_t v = 0; v < placement.of.size(); ++v) {
    const Location& at = placement.of[v];
    if (!at.stored) continue;
    const Value& value = graph.values[v];
    text += std::string(space_name(at.space)) + " " + std::to_string(at.address) + " bytes " + std::to_string(stored_bytes(value)) + " steps " + std::to_string(schedule.first[v]) + " to " +
            std::to_string(schedule.last[v]) + " " + to_string(value.type) + to_string(value.shape) + " " + value.name + "\n";
  }
  return text;
}

std::string print_emitted(const std::vector<Emitted>& code, const std::vector<Descriptor>& descriptors, const std::vector<isa::Layer>& layers, bool waits) {
  std::string text;
  uint32_t layer = UINT32_MAX;
  for (const Emitted& e : code) {
    if (e.layer != layer) {
      layer = e.layer;
      text += "# layer " + std::to_string(layer) + ": " + layers[layer].kind + " " + layers[layer].name + "\n";
    }
    isa::Instruction plain = instruction_of(e, descriptors);
    if (!waits) {
      std::visit(
          [](auto& i) {
            if constexpr (requires { i.wait; }) i.wait = isa::kNoWaits, i.locks = 0;
          },
          plain);
    }
    text += isa::disassemble(plain);
    for (size_t r = 0; r < e.ranges.size(); ++r) {
      const ByteRange& range = e.ranges[r];
      const bool constant = range.space == isa::Space::kDram && range.lo >= kConstantBit;
      const uint64_t base = constant ? kConstantBit : 0;
      text += std::string(r ? ", " : "  # ") + (range.write ? "writes " : "reads ") + (constant ? "constants" : space_name(range.space)) + " " + std::to_string(range.lo - base) + ".." + std::to_string(range.hi - base);
    }
    text += "\n";
  }
  return text;
}

}  // namespace systole
