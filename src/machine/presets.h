// The YAML files of machines/ and technologies/, embedded by CMake so that the tool works from any folder.
#pragma once
#include <span>

namespace systole {

struct Preset {
  const char* name;
  const char* yaml;
};
extern const std::span<const Preset> kPresets, kTechnologies;

}  // namespace systole
