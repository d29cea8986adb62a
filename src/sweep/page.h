// The plot of a sweep as one HTML page.
#pragma once
#include <string>

namespace systole {

/// From the CSV that the sweep writes.
std::string sweep_page(const std::string& base, const std::string& csv);

}  // namespace systole
