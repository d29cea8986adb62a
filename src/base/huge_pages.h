// Pages of two megabytes, for memory that is written as a whole: one page fault in place of 512.
#pragma once
#include <cstddef>

namespace systole {

inline constexpr size_t kHugePage = size_t{2} << 20;
/// Less is not worth a page that the system has to clear.
inline constexpr size_t kWorthHugePage = kHugePage / 4;

/// Bytes of whole huge pages that hold so many. `size` is at most half the address space.
constexpr size_t whole_huge_pages(size_t size) { return (size + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace systole
