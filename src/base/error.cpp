#include "base/error.h"

namespace systole {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kBadInput: return "bad input";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kNotFound: return "not found";
    case ErrorCode::kMismatch: return "mismatch";
    case ErrorCode::kIo: return "input/output";
    case ErrorCode::kResource: return "resource";
    case ErrorCode::kInternal: return "internal";
  }
  return "?";
}

std::string Error::text() const {
  std::string s = std::string(to_string(code)) + ": " + where + ": " + found;
  if (!expected.empty()) s += "\n  expected: " + expected;
  if (!hint.empty()) s += "\n  hint: " + hint;
  return s;
}

void fail(ErrorCode code, std::string where, std::string found, std::string expected, std::string hint) {
  throw Failure(Error{code, std::move(where), std::move(found), std::move(expected), std::move(hint)});
}

void broken_invariant(const char* file, int line, const char* condition, const std::string& values) {
  throw std::logic_error(std::string("internal error at ") + file + ":" + std::to_string(line) + ": " + condition + " does not hold (" + values + ")");
}

}  // namespace systole
