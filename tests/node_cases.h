// ONNX's own node tests (../shared/models/onnx-node-tests.tar.zst), for the tests that go through them.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"

namespace systole {

inline constexpr const char* kOnlyCase = "SYSTOLE_NODE_TEST";  ///< the environment's: cases whose path holds this

/// Folders with a model.onnx under `root`, ascending.
inline std::vector<std::string> case_folders(const std::string& root) {
  namespace fs = std::filesystem;
  const char* only = std::getenv(kOnlyCase);
  std::vector<std::string> folders;
  for (const auto& e : fs::recursive_directory_iterator(root)) {
    if (e.path().filename() == "model.onnx" && (!only || e.path().string().find(only) != std::string::npos)) folders.push_back(e.path().parent_path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

/// The archive unpacked into this folder of the build; nothing where there is no archive, which it says.
inline std::optional<std::string> unpacked_node_tests(const std::string& folder) {
  const std::string archive = std::string(SYSTOLE_SHARED) + "/models/onnx-node-tests.tar.zst", root = std::string(SYSTOLE_BUILD) + "/" + folder;
  if (!file_exists(archive)) {
    std::printf("no ../shared/models here: nothing to compare with\n");
    return {};
  }
  std::filesystem::create_directories(root);
  EXPECT_EQ(std::system(("tar --zstd -xf '" + archive + "' -C '" + root + "'").c_str()), 0);
  return root;
}

}  // namespace systole
