#include "codegen/interleave.h"

#include <algorithm>

#include "base/fields.h"

namespace systole {
namespace {

/// Products that the block makes, or bytes that the copy moves.
double work_of(const Emitted& e, bool products, const std::vector<Descriptor>& descriptors) {
  if (const auto* m = std::get_if<isa::Matrix>(&e.operation)) return products ? static_cast<double>(m->out_rows) * m->out_columns * m->n : 0;
  if (products || e.desc == kNoDescriptor) return 0;
  const auto* copy = std::get_if<isa::CopyDesc>(&descriptors[static_cast<size_t>(e.desc)]);
  if (!copy) return 0;
  double bytes = copy->element_bytes;
  for (uint32_t n : copy->extents) bytes *= n;
  return bytes;
}

}  // namespace

void interleave(std::vector<Emitted>& code, size_t first, size_t second, const std::vector<Descriptor>& descriptors) {
  const auto total = [&](size_t from, size_t to, bool products) {
    double sum = 0;
    for (size_t i = from; i < to; ++i) sum += work_of(code[i], products, descriptors);
    return std::max(sum, 1.0);
  };
  const double products = total(first, second, true), bytes = total(second, code.size(), false);
  std::vector<Emitted> woven;
  woven.reserve(code.size() - first);
  // What runs beside a block stands between the block and its drain, which waits for it.
  double made = 0, moved = 0;
  size_t other = second;
  for (size_t i = first; i < second; ++i) {
    made += work_of(code[i], true, descriptors);
    woven.push_back(std::move(code[i]));
    while (other < code.size() && moved / bytes < made / products) {
      moved += work_of(code[other], false, descriptors);
      woven.push_back(std::move(code[other++]));
    }
  }
  std::move(code.begin() + static_cast<long>(other), code.end(), std::back_inserter(woven));
  code.resize(first);
  std::move(woven.begin(), woven.end(), std::back_inserter(code));
}

}  // namespace systole
