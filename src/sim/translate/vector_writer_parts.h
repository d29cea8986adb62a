// Predicates and tables that the writers of all instruction sets use.
#pragma once
#include <array>

#include "isa/instruction.h"
#include "numerics/formats.h"

namespace systole {

/// Comparisons as instructions number them.
inline constexpr int kLessThan = 17, kLessOrEqual = 18, kEqual = 0, kNotLess = 21, kNotEqual = 4, kUnordered = 3, kGreater = 30;
inline constexpr uint32_t kSignBit = 0x80000000u, kMagnitude = 0x7FFFFFFFu;

/// What each code of an 8-bit float means.
inline const float* table_of(isa::StreamType t) {
  static const auto tables = [] {
    std::array<std::array<float, 256>, 2> all;
    for (int i = 0; i < 256; ++i) {
      const auto code = static_cast<uint8_t>(i);
      all[0][static_cast<size_t>(i)] = decode_float(DType::kF8E4M3, &code), all[1][static_cast<size_t>(i)] = decode_float(DType::kF8E5M2, &code);
    }
    return all;
  }();
  return tables[t == isa::StreamType::kF8E4M3 ? 0 : 1].data();
}

}  // namespace systole
