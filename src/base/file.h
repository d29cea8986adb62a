// Whole files in and out. Writes are atomic: a killed job leaves either the old file or the new one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace systole {

/// Reads a regular file; fails with kIo (and the path) when it is missing, a directory, or larger than `limit_bytes`.
std::vector<uint8_t> read_file(const std::string& path, uint64_t limit_bytes = uint64_t{16} << 30);

/// Writes through a temporary file in the same folder and renames it over `path`.
void write_file(const std::string& path, std::string_view bytes);

bool file_exists(const std::string& path);

/// FNV-1a over bytes, 64 bits: content identity of programs and machines (not for security).
uint64_t content_hash(std::string_view bytes);

}  // namespace systole
