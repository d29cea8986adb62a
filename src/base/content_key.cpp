#include "base/content_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/file.h"
#include "base/parallel.h"

namespace systole {

namespace {

/// In pieces that stay in a core's cache, read once.
std::string key_of(std::string_view bytes) {
  constexpr size_t kPiece = size_t{1} << 18;
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const size_t size = std::min(kPiece, bytes.size() - at);
    XXH3_128bits_update(&state, read_once(reinterpret_cast<const uint8_t*>(bytes.data()) + at, size), size);
  }
  const XXH128_hash_t h = XXH3_128bits_digest(&state);
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
