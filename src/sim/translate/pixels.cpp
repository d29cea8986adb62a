#include "sim/translate/pixels.h"

#include <array>
#include <map>
#include <mutex>

namespace systole {

bool rows_fit(const isa::MatrixOp& op) {
  constexpr double kMost = 64 << 20;
  const isa::MatrixDesc& d = *op.desc;
  const double columns = (static_cast<double>(op.out_columns) - 1) * d.stride_w + (static_cast<double>(d.kernel_w) - 1) * d.dilation_w + 1, rows = (static_cast<double>(d.kernel_h) - 1) * d.dilation_h + 1;
  const double pixel = std::max<double>(4.0 * (d.depthwise ? op.n : d.channels), d.a_pixel_pitch);
  return columns * rows * pixel <= kMost;
}

PixelMap::PixelMap(const isa::MatrixOp& op, const uint8_t* scratchpad) : d_(*op.desc), base_(scratchpad + op.a), in_rows_(op.in_rows), geometry_(geometry_of(op)) {}

std::shared_ptr<const PixelMap::Geometry> PixelMap::geometry_of(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  using Key = std::array<int64_t, 14>;
  const Key key = {d.kernel_h, d.kernel_w, d.stride_h, d.stride_w, d.dilation_h, d.dilation_w, d.in_columns, d.a_row_pitch, d.a_pixel_pitch, op.out_rows, op.out_columns, op.in_rows, op.row_origin, op.column_origin};
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const Geometry>> known;  // as long as an instruction has it
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Geometry>& entry = known[key];
  if (auto found = entry.lock()) return found;
  const auto made = std::make_shared<const Geometry>(work_out(op));
  entry = made;
  if (known.size() > 1024 && (known.size() & (known.size() - 1)) == 0) std::erase_if(known, [](const auto& e) { return e.second.expired(); });
  return made;
}

PixelMap::Geometry PixelMap::work_out(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t reach_h = int64_t{d.kernel_h - 1} * d.dilation_h, reach_w = int64_t{d.kernel_w - 1} * d.dilation_w;
  Geometry g;
  g.pixels.reserve(static_cast<size_t>(op.out_rows) * op.out_columns);
  g.offsets.reserve(g.pixels.capacity());
  for (int64_t r = 0; r < op.out_rows; ++r) {
    for (int64_t c = 0; c < op.out_columns; ++c) {
      const int64_t row = r * d.stride_h + op.row_origin, column = c * d.stride_w + op.column_origin;
      const bool inside = row >= 0 && row + reach_h < op.in_rows && column >= 0 && column + reach_w < d.in_columns;
      g.pixels.push_back({static_cast<int32_t>(row), static_cast<int32_t>(column), inside});
      g.offsets.push_back(row * d.a_row_pitch + column * d.a_pixel_pitch);
    }
  }
  uint32_t run = 0;
  for (size_t p = g.pixels.size(); p-- > 0;) g.pixels[p].inside = run = g.pixels[p].inside ? run + 1 : 0;
  for (int64_t kh = 0; kh < d.kernel_h; ++kh)
    for (int64_t kw = 0; kw < d.kernel_w; ++kw) g.taps.push_back(kh * d.dilation_h * d.a_row_pitch + kw * d.dilation_w * d.a_pixel_pitch);
  g.zeros.resize(g.taps.size());
  return g;
}

int64_t PixelMap::even_pitch(int64_t first, int count) const {
  if (!all_inside(first, count)) return -1;
  const int64_t* at = geometry_->offsets.data() + first;
  const int64_t pitch = count > 1 ? at[1] - at[0] : 0;
  for (int i = 1; i < count; ++i) {
    if (at[i] - at[i - 1] != pitch) return -1;
  }
  return pitch;
}

PixelPlaces PixelMap::places_near_padding(int64_t first, int count, const uint8_t* outside, std::vector<int64_t>& buffer) const {
  buffer.resize(geometry_->taps.size() * static_cast<size_t>(count));
  int64_t* to = buffer.data();
  for (int64_t kh = 0; kh < d_.kernel_h; ++kh)
    for (int64_t kw = 0; kw < d_.kernel_w; ++kw)
      for (int i = 0; i < count; ++i) *to++ = static_cast<int64_t>(reinterpret_cast<uintptr_t>(at(first + i, kh, kw, outside)));
  return {0, geometry_->zeros.data(), buffer.data(), count};
}

}  // namespace systole
