#include <fmt/format.h>

#include "isa/geometry.h"
#include "machine/cost.h"
#include "sim/translate/kernel.h"

namespace systole {
namespace {

const char* name_of(MacFormat f) {
  static constexpr const char* kNames[] = {"int8", "bf16", "fp16", "fp32"};
  return kNames[static_cast<size_t>(f)];
}

}  // namespace

WorkShape shape_of(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, depth = taps * (d.depthwise ? 1 : d.channels);
  std::string text = fmt::format("{} {} x {} pixels, ", name_of(static_cast<MacFormat>(d.format)), op.out_rows, op.out_columns);
  if (taps > 1) text += fmt::format("{} x {} of ", d.kernel_h, d.kernel_w);
  text += d.depthwise ? fmt::format("{} channels", op.n) : fmt::format("{} to {} channels", d.channels, op.n);
  if (d.stride_h > 1 || d.stride_w > 1) text += fmt::format(", every {} x {}", d.stride_h, d.stride_w);
  return {std::move(text), 2.0 * op.out_rows * op.out_columns * static_cast<double>(depth) * op.n};
}

WorkShape shape_of(const isa::VectorOp& op) {
  const isa::VectorDesc& d = *op.desc;
  std::string extents;
  double elements = 1;
  for (size_t k = 0; k < d.extents.size(); ++k) {
    elements *= d.extents[k];
    if (d.extents[k] > 1) extents += fmt::format("{}{}{}", extents.empty() ? "" : " x ", k + d.reduced >= d.extents.size() ? "sum of " : "", d.extents[k]);
  }
  return {fmt::format("{} elements, {} operations", extents.empty() ? "1" : extents, op.program->pre_count + op.program->post_count), elements};
}

WorkShape shape_of(const isa::CopyOp& op) {
  const isa::CopyRuns runs = isa::runs_of(*op.desc);
  return {fmt::format("{} runs of {} bytes", runs.runs, runs.run_bytes), static_cast<double>(runs.bytes())};
}

WorkShape shape_of(const isa::DequantizeOp& op) {
  return {fmt::format("{} records of {} x {} codes of {} bits", op.records, op.record.rows, op.record.columns, op.record.bits), static_cast<double>(op.elements())};
}

}  // namespace systole
