#include "sweep/page.h"

#include <nlohmann/json.hpp>

#include "report/assets.h"

namespace systole {

std::string sweep_page(const std::string& base, const std::string& csv) {
  return make_page(sweep_content(), "Sweep from " + base, sweep_script(), nlohmann::json({{"base", base}, {"csv", csv}}).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

}  // namespace systole
