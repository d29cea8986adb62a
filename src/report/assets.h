// Files of the HTML pages, inside the library, and how they become one page.
#pragma once
#include <string>
#include <string_view>

namespace systole {

std::string_view report_content();  ///< page/page.html
std::string_view report_script();   ///< page/page.js
std::string_view sweep_content();   ///< page/sweep.html
std::string_view sweep_script();    ///< page/sweep.js

/// The frame with its title, style, D3 3.5 (Debian package libjs-d3), content, script and data (JSON); nothing in the data can
/// end its element.
std::string make_page(std::string_view content, const std::string& title, std::string_view script, const std::string& data);

}  // namespace systole
