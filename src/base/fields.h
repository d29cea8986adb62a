// Reflection by hand: a struct lists its members once in a constexpr `fields` tuple, and everything that walks the
// members (encoding, text, parsing, random values, manuals) is derived from that list.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

namespace systole {

/// One member of `S`: its printed name, its width in bits (0 where no encoding exists), the member, and one line of help.
template <class S, class T>
struct Field {
  const char* name;
  int bits;
  T S::*member;
  const char* help = "";
};
template <class S, class T>
Field(const char*, int, T S::*, const char*) -> Field<S, T>;
template <class S, class T>
Field(const char*, int, T S::*) -> Field<S, T>;

/// Calls `f(field)` for each entry of S::fields, in order.
template <class S, class F>
constexpr void for_each_field(F&& f) {
  std::apply([&](const auto&... field) { (f(field), ...); }, S::fields);
}

/// Calls `f(field, value)` for each member of `s`, in order; `s` may be const.
template <class S, class F>
constexpr void visit_fields(S& s, F&& f) {
  for_each_field<std::remove_const_t<S>>([&](const auto& field) { f(field, s.*(field.member)); });
}

/// Overload set for std::visit.
template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overload(Fs...) -> Overload<Fs...>;

}  // namespace systole
