// A 128-bit key of some bytes (XXH3), as 32 hexadecimal digits: the same content, the same key. Of large
// contents the key of their parts' keys, which are made side by side.
#pragma once
#include <string>
#include <string_view>

namespace systole {

std::string content_key(std::string_view bytes);

}  // namespace systole
