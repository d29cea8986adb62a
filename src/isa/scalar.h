// How one field value becomes bits and text, by type: the base case under codec.cpp and text.cpp.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>

#include "isa/instruction.h"

namespace systole::isa {

/// Members of an enumeration, in order; nullptr-terminated lists live in text.cpp.
template <class T>
struct EnumNames;
template <>
struct EnumNames<Engine> { static constexpr const char* kNames[] = {"ld", "st", "mx", "vx", "ct"}; };
template <>
struct EnumNames<Space> { static constexpr const char* kNames[] = {"dram", "spm", "acc", "fill"}; };
template <>
struct EnumNames<StreamType> { static constexpr const char* kNames[] = {"f32", "bf16", "f16", "i8", "u8", "i32", "f8e4m3", "f8e5m2", "none", "f8e4m3fnuz", "f8e5m2fnuz", "f8e8m0", "f4e2m1", "i16", "u16"}; };
template <>
struct EnumNames<Init> { static constexpr const char* kNames[] = {"zero", "keep", "bias"}; };
template <>
struct EnumNames<Reduce> { static constexpr const char* kNames[] = {"none", "sum", "max", "min"}; };

template <class T>
constexpr uint64_t enum_count() {
  return std::size(EnumNames<T>::kNames);
}
static_assert(enum_count<Engine>() == static_cast<uint64_t>(Engine::kControl) + 1 && enum_count<Space>() == static_cast<uint64_t>(Space::kFill) + 1);
static_assert(enum_count<StreamType>() == static_cast<uint64_t>(StreamType::kU16) + 1);
static_assert(enum_count<Init>() == static_cast<uint64_t>(Init::kBias) + 1 && enum_count<Reduce>() == static_cast<uint64_t>(Reduce::kMin) + 1);

inline uint64_t mask(int bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

/// Value to raw bits (two's complement, not yet masked).
template <class T>
uint64_t to_raw(const T& v) {
  if constexpr (std::is_same_v<T, float>) return std::bit_cast<uint32_t>(v);
  else if constexpr (std::is_same_v<T, MicroOp>)
    return static_cast<uint64_t>(v.op) | uint64_t{v.dst} << 6 | uint64_t{v.a} << 9 | uint64_t{v.b} << 14 | uint64_t{v.c} << 19;
  else return static_cast<uint64_t>(v);
}

/// Raw bits to value; false when the bits are outside the type's members.
template <class T>
bool from_raw(uint64_t raw, int bits, T& v) {
  if constexpr (std::is_same_v<T, float>) v = std::bit_cast<float>(static_cast<uint32_t>(raw));
  else if constexpr (std::is_same_v<T, MicroOp>) {
    if ((raw & 63) >= kMicroCount) return false;
    v.op = static_cast<Micro>(raw & 63);
    v.dst = (raw >> 6) & 7, v.a = (raw >> 9) & 31, v.b = (raw >> 14) & 31, v.c = (raw >> 19) & 31;
  } else if constexpr (std::is_enum_v<T>) {
    if (raw >= enum_count<T>()) return false;
    v = static_cast<T>(raw);
  } else if constexpr (std::is_signed_v<T>) v = static_cast<T>(static_cast<int64_t>(raw << (64 - bits)) >> (64 - bits));
  else v = static_cast<T>(raw);
  return true;
}

template <class T>
struct is_array : std::false_type {};
template <class T, size_t N>
struct is_array<std::array<T, N>> : std::true_type {};

/// Calls f(element) for a scalar member, or for each element of an array member.
template <class T, class F>
constexpr void for_each_element(T& member, F&& f) {
  if constexpr (is_array<std::remove_const_t<T>>::value) {
    for (auto& e : member) f(e);
  } else {
    f(member);
  }
}

/// Total encoded bits of an instruction type.
template <class I>
constexpr int bits_of() {
  int bits = kOpcodeBits;
  for_each_field<I>([&](const auto& field) {
    using M = std::remove_cvref_t<decltype(std::declval<I>().*(field.member))>;
    if constexpr (is_array<M>::value) bits += field.bits * static_cast<int>(std::tuple_size_v<M>);
    else bits += field.bits;
  });
  return bits;
}

}  // namespace systole::isa
