#include "base/content_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>
#include <vector>

#include "base/parallel.h"

namespace systole {

namespace {

std::string key_of(std::string_view bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(h.high64), static_cast<unsigned long long>(h.low64));
  return text;
}

}  // namespace

std::string content_key(std::string_view bytes) {
  constexpr size_t kPart = size_t{8} << 20;
  if (bytes.size() <= kPart) return key_of(bytes);
  std::vector<std::string> parts((bytes.size() + kPart - 1) / kPart);
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) parts[static_cast<size_t>(i)] = key_of(bytes.substr(static_cast<size_t>(i) * kPart, kPart));
  });
  std::string all = std::to_string(bytes.size());
  for (const std::string& part : parts) all += part;
  return key_of(all);
}

}  // namespace systole
