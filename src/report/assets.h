// Files of the HTML report, inside the library.
#pragma once
#include <string_view>

namespace systole {

std::string_view page_template();  ///< report/page/page.html
std::string_view page_style();     ///< report/page/page.css
std::string_view page_script();    ///< report/page/page.js
std::string_view plotting_library();  ///< D3 3.5 (Debian package libjs-d3)

}  // namespace systole
