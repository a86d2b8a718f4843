// Reads the values of a GGUF file's metadata.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "mtp/io/gguf/cursor.hpp"
#include "mtp/io/gguf/format.hpp"
#include "mtp/io/gguf/metadata.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Calls sink(number<T>()) `count` times for the C++ type of a number.
template <class Sink>
void for_each_gguf_number(gguf_cursor& from,
                          gguf_value_type type,
                          std::uint64_t count,
                          const std::string& key,
                          Sink&& sink) {
  const auto all = [&](auto zero) {
    for (std::uint64_t i = 0; i < count; ++i) sink(from.number<decltype(zero)>(key));
  };
  using enum gguf_value_type;
  switch (type) {
    case u8:
      return all(std::uint8_t{});
    case i8:
      return all(std::int8_t{});
    case u16:
      return all(std::uint16_t{});
    case i16:
      return all(std::int16_t{});
    case u32:
      return all(std::uint32_t{});
    case i32:
      return all(std::int32_t{});
    case f32:
      return all(float{});
    case u64:
      return all(std::uint64_t{});
    case i64:
      return all(std::int64_t{});
    case f64:
      return all(double{});
    default:
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto value = from.number<std::uint8_t>(key);
        from.require(value <= 1, key, ": expected 0 or 1 for a truth value, got ", int{value});
        sink(value);
      }
  }
}

/// The type of a value with that number. Throws for an unknown one.
inline gguf_value_type gguf_value_type_of(const gguf_cursor& from,
                                          std::uint32_t number,
                                          const std::string& key) {
  from.require(number < gguf_value_bytes.size(),
               key,
               ": expected a type from 0 to ",
               gguf_value_bytes.size() - 1,
               ", got ",
               number);
  return static_cast<gguf_value_type>(number);
}

/// The numbers of an array or, with one of them, a number.
template <class Wide>
std::vector<Wide> read_gguf_numbers(gguf_cursor& from,
                                    gguf_value_type type,
                                    std::uint64_t count,
                                    const std::string& key) {
  std::vector<Wide> numbers;
  numbers.reserve(static_cast<std::size_t>(count));
  for_each_gguf_number(
      from, type, count, key, [&](auto value) { numbers.push_back(static_cast<Wide>(value)); });
  return numbers;
}

/// Calls make(vector) with the numbers in the widest type of their kind.
template <class Make>
gguf_value read_gguf_wide(gguf_cursor& from,
                          gguf_value_type type,
                          std::uint64_t count,
                          const std::string& key,
                          Make&& make) {
  using enum gguf_value_type;
  switch (type) {
    case i8:
    case i16:
    case i32:
    case i64:
      return make(read_gguf_numbers<std::int64_t>(from, type, count, key));
    case f32:
    case f64:
      return make(read_gguf_numbers<double>(from, type, count, key));
    default:
      return make(read_gguf_numbers<std::uint64_t>(from, type, count, key));
  }
}

inline gguf_value read_gguf_array(gguf_cursor& from, const std::string& key) {
  const auto type = gguf_value_type_of(from, from.number<std::uint32_t>(key), key);
  from.require(type != gguf_value_type::array, key, ": an array of arrays is not supported");
  const std::uint64_t count = from.count(gguf_value_bytes[static_cast<std::size_t>(type)], key);
  if (type == gguf_value_type::string) {
    std::vector<std::string> texts;
    texts.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) texts.push_back(from.text(key));
    return texts;
  }
  return read_gguf_wide(from, type, count, key, [](auto numbers) -> gguf_value { return numbers; });
}

}  // namespace mtp::inline MTP_ABI::io::detail
