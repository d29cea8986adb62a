// Whole files in and out. Writes are atomic: a killed job leaves either the old file or the new one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace systole {

/// Reads a regular file; fails with kIo (and the path) when it is missing, a directory, or larger than `limit_bytes`.
std::vector<uint8_t> read_file(const std::string& path, uint64_t limit_bytes = uint64_t{16} << 30);

/// The same, shared: large files are read by the host's threads into memory that was not cleared before.
Bytes read_shared(const std::string& path, uint64_t limit_bytes = uint64_t{16} << 30);

/// The same file mapped read-only instead of read: nothing is copied, pages come as they are touched. For files that nobody
/// cuts while they are in use.
Bytes map_file(const std::string& path, uint64_t limit_bytes = uint64_t{16} << 30);

/// Bytes that are read once, for example to be packed: as they lie, or where they are a mapped file's (map_file) copied through the system, for which
/// pages need not be mapped one by one, which costs several times as much. Valid until the thread's next call.
const uint8_t* read_once(const uint8_t* from, size_t size);
/// The same into memory of one's own.
void copy_once(const uint8_t* from, size_t size, uint8_t* to);

/// What changes when a file's content may have changed: device, inode, size and times. Empty where the file was changed so
/// lately that a later change could leave it the same.
std::string file_identity(const std::string& path);

/// Writes through a temporary file in the same folder and renames it over `path`.
void write_file(const std::string& path, std::string_view bytes);
/// The pieces one after another.
void write_pieces(const std::string& path, const std::vector<Bytes>& pieces);

bool file_exists(const std::string& path);

/// FNV-1a over bytes, 64 bits: content identity of programs and machines (not for security).
uint64_t content_hash(std::string_view bytes);

}  // namespace systole
