// NumPy .npz archives (numpy.savez, savez_compressed): arrays by name.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// Whether a path names an archive: FILE.npz, or one of its arrays: FILE.npz:NAME.
bool is_npz(const std::string& path);
/// FILE.npz of either.
std::string npz_file(const std::string& path);
/// Names of an archive's arrays, in its order. Fails (kIo, kBadInput) on what is no archive.
std::vector<std::string> npz_names(const std::string& path);
/// The array that `path` names; else the first of `usual` that is there; else the only one. Fails (kNotFound) with the names there are.
Tensor read_npz(const std::string& path, const std::vector<std::string>& usual = {});

/// Writes an archive of these arrays. Fails (kIo).
void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays, bool deflated = false);

/// A .npy file, or an archive's array as read_npz takes it.
Tensor read_array(const std::string& path, const std::vector<std::string>& usual = {});

}  // namespace systole
