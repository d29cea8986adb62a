// The assembler includes the files; CMake names them.
#include "report/assets.h"

#define SYSTOLE_ASSET(name, file)                                                                                   \
  asm(".section .rodata\n.global systole_" name "_begin\n.global systole_" name "_end\nsystole_" name               \
      "_begin:\n.incbin \"" file "\"\nsystole_" name "_end:\n.byte 0\n.previous\n")

SYSTOLE_ASSET("frame_html", SYSTOLE_PAGE "/frame.html");
SYSTOLE_ASSET("common_js", SYSTOLE_PAGE "/common.js");
SYSTOLE_ASSET("page_html", SYSTOLE_PAGE "/page.html");
SYSTOLE_ASSET("page_css", SYSTOLE_PAGE "/page.css");
SYSTOLE_ASSET("page_js", SYSTOLE_PAGE "/page.js");
SYSTOLE_ASSET("sweep_html", SYSTOLE_PAGE "/sweep.html");
SYSTOLE_ASSET("sweep_js", SYSTOLE_PAGE "/sweep.js");
SYSTOLE_ASSET("d3", SYSTOLE_D3);

extern "C" {
extern const char systole_frame_html_begin[], systole_frame_html_end[], systole_common_js_begin[], systole_common_js_end[], systole_page_html_begin[], systole_page_html_end[], systole_page_css_begin[], systole_page_css_end[], systole_page_js_begin[], systole_page_js_end[], systole_sweep_html_begin[], systole_sweep_html_end[], systole_sweep_js_begin[], systole_sweep_js_end[], systole_d3_begin[], systole_d3_end[];
}

namespace systole {

namespace {

void replace(std::string& text, std::string_view mark, std::string_view by) {
  for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += by.size()) text.replace(at, mark.size(), by);
}

/// Text inside a script or a title: no tag can begin in it.
std::string harmless(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '<' ? std::string("\\u003c") : c == '&' ? std::string("\\u0026") : std::string(1, c);
  return out;
}
std::string as_html(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '<' ? std::string("&lt;") : c == '&' ? std::string("&amp;") : std::string(1, c);
  return out;
}

}  // namespace

std::string_view report_content() { return {systole_page_html_begin, systole_page_html_end}; }
std::string_view report_script() { return {systole_page_js_begin, systole_page_js_end}; }
std::string_view sweep_content() { return {systole_sweep_html_begin, systole_sweep_html_end}; }
std::string_view sweep_script() { return {systole_sweep_js_begin, systole_sweep_js_end}; }

std::string make_page(std::string_view content, const std::string& title, std::string_view script, const std::string& data) {
  std::string page(systole_frame_html_begin, systole_frame_html_end);
  replace(page, "@MAIN@", content);
  replace(page, "@TITLE@", as_html(title));
  replace(page, "@CSS@", {systole_page_css_begin, systole_page_css_end});
  replace(page, "@COMMON@", {systole_common_js_begin, systole_common_js_end});
  replace(page, "@JS@", script);
  replace(page, "@D3@", {systole_d3_begin, systole_d3_end});
  replace(page, "@DATA@", harmless(data));
  return page;
}

}  // namespace systole
