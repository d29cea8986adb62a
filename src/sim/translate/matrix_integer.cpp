// MX on integers: A as bytes, straight from the scratchpad where channels come in fours, else gathered pixel by pixel;
// zero points by correction: sum (a - za)(b - zb) = sum a (b - zb) - za sum (b - zb).
#include <cstring>

#include "sim/translate/kernel.h"
#include "sim/translate/matrix_int8.h"
#include "sim/translate/matrix_kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/pixels.h"

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
namespace {

int64_t depth_of(const isa::MatrixDesc& d) { return (int64_t{d.kernel_h} * d.kernel_w * d.channels + kInt8Depth - 1) / kInt8Depth * kInt8Depth; }
/// A's zero point as that of the bytes the kernel sees: signed values have their top bit turned.
int byte_zero(const isa::MatrixDesc& d) { return d.a_zero + (d.a_signed ? 128 : 0); }
bool reads_directly(const isa::MatrixDesc& d) { return d.channels % kInt8Depth == 0 && d.a_channel_pitch == 1; }

class IntegerMatrix final : public Kernel {
 public:
  IntegerMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), packed_(std::move(packed)), pixels_(op_, memory.scratchpad.data()), depth_(depth_of(d_)), direct_(reads_directly(d_)) {
    tiles_ = (acc_.pixels() + kInt8Rows - 1) / kInt8Rows;
    panels_ = (acc_.outputs() + kInt8Columns - 1) / kInt8Columns;
    if (direct_) outside_.assign(d_.channels, static_cast<uint8_t>(d_.a_zero));
  }
  WorkClass work_class() const override { return WorkClass::kMatrixInteger; }
  int64_t pieces() const override { return tiles_ * panels_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kInt8Columns * depth_) / 150; }

  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<uint8_t> gathered;
    thread_local std::vector<const uint8_t*> rows;
    alignas(64) int32_t sums[kInt8Rows * kInt8Columns];
    const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, segments = direct_ ? taps : 1, quads = (direct_ ? d_.channels : depth_) / kInt8Depth;
    rows.resize(static_cast<size_t>(taps * kInt8Rows + PixelMap::kSlack));
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / panels_, panel = piece - tile * panels_, first = tile * acc_.pixels() / tiles_;
      const int count = static_cast<int>((tile + 1) * acc_.pixels() / tiles_ - first);
      if (at != tile) {
        at = tile;
        direct_ ? pixels_.pointers(first, count, outside_.data(), rows.data()) : gather(first, count, gathered, rows);
      }
      const int64_t left = acc_.outputs() - panel * kInt8Columns;
      multiply_int8(sums, rows.data(), count, segments, quads, packed_->bytes.data() + panel * depth_ * kInt8Columns, left <= 16, d_.a_signed);
      finish(sums, first, count, panel * kInt8Columns);
    }
  }

 private:
  void gather(int64_t first, int count, std::vector<uint8_t>& bytes, std::vector<const uint8_t*>& rows) const {
    bytes.resize(static_cast<size_t>(depth_ * count) + 64);
    for (int i = 0; i < count; ++i) {
      const bool joined = d_.a_channel_pitch == 1 && d_.a_pixel_pitch == d_.channels && d_.dilation_w == 1 && pixels_.inside(first + i);
      const int64_t run = joined ? int64_t{d_.kernel_w} * d_.channels : d_.channels, runs = joined ? 1 : d_.kernel_w;
      uint8_t* to = bytes.data() + i * depth_;
      rows[static_cast<size_t>(i)] = to;
      for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
        for (int64_t kw = 0; kw < runs; ++kw, to += run) copy(to, pixels_.at(first + i, kh, kw, nullptr), run);
      }
    }
  }
  SYSTOLE_AVX512 void copy(uint8_t* to, const uint8_t* from, int64_t n) const {
    if (!from) {
      std::memset(to, d_.a_zero, static_cast<size_t>(n));
    } else if (d_.a_channel_pitch != 1) {
      for (int64_t c = 0; c < n; ++c) to[c] = from[c * d_.a_channel_pitch];
    } else {
      for (int64_t c = 0; c < n; c += 64) {
        const __mmask64 mask = n - c >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - c)) - 1;
        _mm512_mask_storeu_epi8(to + c, mask, _mm512_maskz_loadu_epi8(mask, from + c));
      }
    }
  }

  SYSTOLE_AVX512 void finish(const int32_t* sums, int64_t first, int count, int64_t column) const {
    const __m512i zero = _mm512_set1_epi32(-byte_zero(d_));
    for (int64_t o = column; o < std::min(column + kInt8Columns, acc_.outputs()); o += 16) {
      __m512i start = _mm512_mullo_epi32(zero, _mm512_loadu_si512(packed_->column_sums.data() + o));
      if (!acc_.keeps()) start = _mm512_add_epi32(start, acc_.initial_x16(first, o));
      const int32_t* from = sums + (o - column);
      if (acc_.keeps() || !acc_.whole_vectors()) {
        for (int r = 0; r < count; ++r, from += kInt8Columns) {
          const __m512i sum = _mm512_add_epi32(start, _mm512_load_si512(from));
          acc_.store_x16(first + r, o, acc_.keeps() ? _mm512_add_epi32(sum, acc_.initial_x16(first + r, o)) : sum);
        }
        continue;
      }
      const __mmask16 mask = Accumulators::mask(acc_.outputs() - o);
      uint32_t* to = acc_.sixteen(first, o);
      for (int r = 0; r < count; ++r, from += kInt8Columns, to += acc_.pixel_pitch()) _mm512_mask_storeu_epi32(to, mask, _mm512_add_epi32(start, _mm512_load_si512(from)));
    }
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  const PixelMap pixels_;
  int64_t depth_, tiles_, panels_;
  bool direct_;
  std::vector<uint8_t> outside_;
};

}  // namespace

bool integer_matrix_runs(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  return byte_zero(d) >= 0 && byte_zero(d) <= 255 && d.b_zero == (d.b_signed ? 0 : 128);
}

/// [panel of 32 columns][k / 4][column][4]; a last panel with 16 columns or fewer is 16 wide.
void pack_integer_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t k = int64_t{d.kernel_h} * d.kernel_w * d.channels, depth = depth_of(d), n = op.n, panels = (n + kInt8Columns - 1) / kInt8Columns;
  out.bytes.assign(static_cast<size_t>(panels * kInt8Columns * depth), 0);
  out.column_sums.assign(static_cast<size_t>(panels * kInt8Columns), 0);
  const uint8_t turn = d.b_signed ? 0 : 0x80;
  for (int64_t o = 0; o < n; ++o) {
    const int64_t panel = o / kInt8Columns, width = n - panel * kInt8Columns <= 16 ? 16 : kInt8Columns;
    const uint8_t* from = b + o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch;
    uint8_t* to = out.bytes.data() + panel * depth * kInt8Columns + o % kInt8Columns * kInt8Depth;
    int32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      const uint8_t v = from[i * d.b_row_pitch] ^ turn;
      to[i / kInt8Depth * width * kInt8Depth + i % kInt8Depth] = v;
      sum += static_cast<int8_t>(v);
    }
    out.column_sums[static_cast<size_t>(o)] = sum;
  }
}

std::unique_ptr<Kernel> integer_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  return std::make_unique<IntegerMatrix>(memory, op, columns, std::move(packed));
}
#endif

}  // namespace systole
