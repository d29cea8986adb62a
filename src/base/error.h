// Errors a user can cause. Inside the library they travel as `Failure`; the public API turns them into `Result`.
// A broken invariant is a bug of ours: it stops the operation with its values, and the caller sees an internal error.
#pragma once
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace systole {

/// What class of mistake it is; scripts branch on this, people read the text.
enum class ErrorCode { kBadInput, kUnsupported, kNotFound, kMismatch, kIo, kResource, kInternal };

/// Name of an error class as printed, for example "unsupported".
const char* to_string(ErrorCode code);

/// One user-visible error: where it is, what was found there, what was expected, and what to do about it.
struct Error {
  ErrorCode code = ErrorCode::kBadInput;
  std::string where;
  std::string found;
  std::string expected;
  std::string hint;

  /// One to four lines of text, without a trailing newline.
  std::string text() const;
};

/// Carries an Error up to the API boundary.
class Failure : public std::exception {
 public:
  explicit Failure(Error error) : error_(std::move(error)), text_(error_.text()) {}
  const char* what() const noexcept override { return text_.c_str(); }
  const Error& error() const { return error_; }

 private:
  Error error_;
  std::string text_;
};

[[noreturn]] void fail(ErrorCode code, std::string where, std::string found, std::string expected = {}, std::string hint = {});

/// Throws std::logic_error with file, line and values: for states that no input should produce.
[[noreturn]] void broken_invariant(const char* file, int line, const char* condition, const std::string& values);

#define SYSTOLE_CHECK(condition, values)                                          \
  do {                                                                             \
    if (!(condition)) ::systole::broken_invariant(__FILE__, __LINE__, #condition, values); \
  } while (0)

/// A value or an Error; `value()` on an error throws the Failure.
template <class T>
class Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}
  explicit operator bool() const { return std::holds_alternative<T>(state_); }
  T& value() & { return get(); }
  T&& value() && { return std::move(get()); }
  const Error& error() const { return std::get<Error>(state_); }
  T* operator->() { return &get(); }
  T& operator*() { return get(); }

 private:
  T& get() {
    if (auto* e = std::get_if<Error>(&state_)) throw Failure(*e);
    return std::get<T>(state_);
  }
  std::variant<T, Error> state_;
};

/// Runs `f` and turns a Failure into an error Result. Memory exhaustion caused by an input is reported the same way.
template <class F>
auto catch_failures(F&& f) -> Result<decltype(f())> {
  try {
    return f();
  } catch (const Failure& e) {
    return e.error();
  } catch (const std::logic_error& e) {
    return Error{ErrorCode::kInternal, "systole", e.what(), "", "this is a bug of Systole: please report it with the model"};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResource, "memory", "allocation failed", "", "use a smaller model or input"};
  }
}

}  // namespace systole
