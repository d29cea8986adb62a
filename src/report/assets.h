// Files of the HTML pages, inside the library, and how they become one page.
#pragma once
#include <string>
#include <string_view>

namespace systole {

std::string_view page_template();  ///< report/page/page.html
std::string_view page_style();     ///< report/page/page.css
std::string_view page_script();    ///< report/page/page.js
std::string_view plotting_library();  ///< D3 3.5 (Debian package libjs-d3)

std::string_view sweep_template();  ///< report/page/sweep.html
std::string_view sweep_script();    ///< report/page/sweep.js

/// The template with its title, style, plotting library, script and data (JSON) filled in; nothing in the data can end its element.
std::string fill_page(std::string_view page, const std::string& title, std::string_view script, const std::string& data);

}  // namespace systole
