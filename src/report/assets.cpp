// The assembler includes the files; CMake names them.
#include "report/assets.h"

#define SYSTOLE_ASSET(name, file)                                                                                   \
  asm(".section .rodata\n.global systole_" name "_begin\n.global systole_" name "_end\nsystole_" name               \
      "_begin:\n.incbin \"" file "\"\nsystole_" name "_end:\n.byte 0\n.previous\n")

SYSTOLE_ASSET("page_html", SYSTOLE_PAGE "/page.html");
SYSTOLE_ASSET("page_css", SYSTOLE_PAGE "/page.css");
SYSTOLE_ASSET("page_js", SYSTOLE_PAGE "/page.js");
SYSTOLE_ASSET("d3", SYSTOLE_D3);

extern "C" {
extern const char systole_page_html_begin[], systole_page_html_end[], systole_page_css_begin[], systole_page_css_end[], systole_page_js_begin[], systole_page_js_end[], systole_d3_begin[], systole_d3_end[];
}

namespace systole {

std::string_view page_template() { return {systole_page_html_begin, systole_page_html_end}; }
std::string_view page_style() { return {systole_page_css_begin, systole_page_css_end}; }
std::string_view page_script() { return {systole_page_js_begin, systole_page_js_end}; }
std::string_view plotting_library() { return {systole_d3_begin, systole_d3_end}; }

}  // namespace systole
