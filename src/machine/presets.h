// The YAML files of machines/, technologies/ and processors/, embedded by CMake so that the tool works from any folder.
#pragma once
#include <span>

namespace systole {

struct Preset {
  const char* name;
  const char* yaml;
};
extern const std::span<const Preset> kPresets, kTechnologies, kProcessors;

}  // namespace systole
