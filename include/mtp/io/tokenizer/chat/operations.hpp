// What Python does with values: truth, comparison, arithmetic, places of sequences, texts.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/value.hpp"
#include "mtp/io/tokenizer/unicode.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// Python's bool().
inline bool is_true(const value& x) {
  if (x.is<undefined>() || x.is<none>()) return false;
  if (x.is<double>()) return x.as<double>() != 0;
  if (x.is_number()) return x.whole() != 0;
  if (x.is<chat_text>()) return x.characters().size() > 0;
  if (x.is_list()) return !x.elements().empty();
  return !x.is_mapping() || !x.mapping().empty();
}

/// Python's ==.
inline bool equal(const value& a, const value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is<double>() || b.is<double>() ? a.real() == b.real() : a.whole() == b.whole();
  }
  if (a.is<chat_text>() && b.is<chat_text>())
    return a.characters().bytes() == b.characters().bytes();
  if (a.is_list() && b.is_list()) {
    const list &one = a.elements(), &two = b.elements();
    return std::equal(one.begin(), one.end(), two.begin(), two.end(), equal);
  }
  if (a.is_mapping() && b.is_mapping()) {
    if (a.mapping().size() != b.mapping().size()) return false;
    for (const auto& [key, each] : a.mapping()) {
      const value* const other = find(b.mapping(), key.bytes());
      if (other == nullptr || !equal(each, *other)) return false;
    }
    return true;
  }
  return (a.is<none>() && b.is<none>()) || (a.is<undefined>() && b.is<undefined>());
}

/// Python's <, of two numbers or two texts.
inline bool less(const value& a, const value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is<double>() || b.is<double>() ? a.real() < b.real() : a.whole() < b.whole();
  }
  check(a.is<chat_text>() && b.is<chat_text>(),
        "expected two numbers or two texts to compare, got ",
        a.kind(),
        " and ",
        b.kind());
  return a.characters().bytes() < b.characters().bytes();
}

/// Python's `in`.
inline bool contains(const value& all, const value& part) {
  if (all.is<undefined>()) return false;
  if (all.is_list()) {
    return std::any_of(all.elements().begin(), all.elements().end(), [&](const value& each) {
      return equal(each, part);
    });
  }
  check(
      all.is<chat_text>() || all.is_mapping(), "expected a sequence behind 'in', got ", all.kind());
  if (all.is_mapping()) {
    return part.is<chat_text>() && find(all.mapping(), part.characters().bytes()) != nullptr;
  }
  check(part.is<chat_text>(), "expected a text in front of 'in', got ", part.kind());
  return all.characters().bytes().find(part.characters().bytes()) != std::string::npos;
}

/// Python's repr() of a number: the shortest digits that give it back.
inline std::string text_of_number(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char digits[64];
  const double size = std::abs(number);
  const bool is_plain = number == 0 || (size >= 1e-4 && size < 1e16);
  const auto end =
      std::to_chars(digits,
                    digits + sizeof digits,
                    number,
                    is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string result(digits, end.ptr);
  if (is_plain && result.find('.') == std::string::npos) result += ".0";
  return result;
}

/// Python's str().
inline chat_text text_of(const value& x) {
  if (x.is<chat_text>()) return x.characters();
  if (x.is<undefined>()) return {};
  if (x.is<none>()) return chat_text("None");
  if (x.is<bool>()) return chat_text(x.as<bool>() ? "True" : "False");
  if (x.is<std::int64_t>()) return chat_text(std::to_string(x.whole()));
  if (x.is<double>()) return chat_text(text_of_number(x.as<double>()));
  fail("expected a text or a number to write, got ", x.kind(), "; the filter tojson writes others");
}

/// Where the characters of a text begin, and its end.
inline std::vector<std::size_t> character_places(std::string_view bytes) {
  std::vector<std::size_t> places;
  for (std::size_t at = 0; at < bytes.size(); at += character_at(bytes, at).bytes) {
    places.push_back(at);
  }
  places.push_back(bytes.size());
  return places;
}

/// The characters of a text, one by one.
inline list characters_of(const chat_text& all) {
  list result;
  const std::vector<std::size_t> places = character_places(all.bytes());
  for (std::size_t i = 0; i + 1 < places.size(); ++i) {
    result.push_back(all.part(places[i], places[i + 1]));
  }
  return result;
}

/// What a loop or a filter goes through: elements, keys or characters.
inline list sequence_of(const value& x) {
  if (x.is<undefined>()) return {};
  if (x.is_list()) return x.elements();
  if (x.is<chat_text>()) return characters_of(x.characters());
  check(x.is_mapping(), "expected a sequence, got ", x.kind());
  list keys;
  for (const auto& [key, each] : x.mapping()) keys.push_back(key);
  return keys;
}

/// Python's len().
inline std::int64_t length_of(const value& x) {
  if (x.is_mapping()) return static_cast<std::int64_t>(x.mapping().size());
  return static_cast<std::int64_t>(sequence_of(x).size());
}

/// x[at]; undefined where there is nothing.
inline value at(const value& x, const value& place) {
  check(!x.is<undefined>(), "'", x.is<undefined>() ? x.as<undefined>().name : "", "' is undefined");
  if (x.is_mapping()) {
    const value* const found =
        place.is<chat_text>() ? find(x.mapping(), place.characters().bytes()) : nullptr;
    return found != nullptr ? *found : value(undefined{text_of(place).bytes()});
  }
  if (!(x.is_list() || x.is<chat_text>()) || !place.is_number() || place.is<double>()) {
    return undefined{"an element of " + std::string(x.kind())};
  }
  const list all = sequence_of(x);
  const auto count = static_cast<std::int64_t>(all.size());
  const std::int64_t i = place.whole() < 0 ? place.whole() + count : place.whole();
  if (i < 0 || i >= count) return undefined{"element " + std::to_string(place.whole())};
  return all[static_cast<std::size_t>(i)];
}

/// x[begin:end:step].
inline value slice(const value& x, const value& begin, const value& end, const value& step) {
  const auto number = [](const value& part) -> std::optional<std::int64_t> {
    if (part.is<none>()) return {};
    check(part.is_number() && !part.is<double>(),
          "expected whole numbers for a slice, got ",
          part.kind());
    return part.whole();
  };
  check(x.is_list() || x.is<chat_text>(), "expected a list or a text to slice, got ", x.kind());
  const list all = sequence_of(x);
  const auto count = static_cast<std::int64_t>(all.size());
  const std::int64_t by = number(step).value_or(1);
  check(by != 0, "the step of a slice is 0");
  const std::int64_t low = by > 0 ? 0 : -1, high = by > 0 ? count : count - 1;
  const auto place = [&](const value& part, std::int64_t otherwise) {
    const auto given = number(part);
    if (!given) return otherwise;
    return std::clamp(*given < 0 ? (std::max)(*given, -count - 1) + count : *given, low, high);
  };
  const std::int64_t first = place(begin, by > 0 ? low : high);
  const std::int64_t last = place(end, by > 0 ? high : low);
  list part;
  for (std::int64_t i = first; by > 0 ? i < last : i > last;) {
    part.push_back(all[static_cast<std::size_t>(i)]);
    const std::int64_t rest = by > 0 ? last - i : i - last;
    if ((by > 0 ? by : -(by + 1)) >= rest) break;
    i += by;
  }
  if (x.is_list()) return part;
  chat_text joined;
  for (const value& each : part) joined.append(each.characters());
  return joined;
}

/// Python's +, -, *, /, // and % of numbers, and + of texts and lists.
inline value arithmetic(std::string_view sign, const value& a, const value& b) {
  if (sign == "+" && a.is<chat_text>() && b.is<chat_text>()) {
    chat_text joined = a.characters();
    joined.append(b.characters());
    return joined;
  }
  if (sign == "+" && a.is_list() && b.is_list()) {
    constexpr std::size_t most = std::size_t{1} << 20;
    check(a.elements().size() + b.elements().size() <= most,
          "a list has more than ",
          most,
          " elements");
    list joined = a.elements();
    joined.insert(joined.end(), b.elements().begin(), b.elements().end());
    return joined;
  }
  check(a.is_number() && b.is_number(),
        "expected two numbers",
        sign == "+" ? ", texts or lists" : "",
        " for ",
        sign,
        ", got ",
        a.kind(),
        " and ",
        b.kind());
  const bool divides = sign == "/" || sign == "//" || sign == "%";
  check(!divides || b.real() != 0, "a number is divided by 0");
  if (a.is<double>() || b.is<double>() || sign == "/") {
    const double x = a.real(), y = b.real();
    if (sign == "+") return x + y;
    if (sign == "-") return x - y;
    if (sign == "*") return x * y;
    if (sign == "/") return x / y;
    return sign == "//" ? std::floor(x / y) : x - y * std::floor(x / y);
  }
  const std::int64_t x = a.whole(), y = b.whole();
  std::int64_t result = 0;
  bool overflows = false;
  if (sign == "+") {
    overflows = __builtin_add_overflow(x, y, &result);
  } else if (sign == "-") {
    overflows = __builtin_sub_overflow(x, y, &result);
  } else if (sign == "*") {
    overflows = __builtin_mul_overflow(x, y, &result);
  } else if (y == -1) {
    overflows = sign == "//" && __builtin_sub_overflow(std::int64_t{0}, x, &result);
  } else {
    const std::int64_t rest = (x % y + y) % y;  // of the sign of y, as in Python
    result = sign == "%" ? rest : (x - rest) / y;
  }
  check(!overflows, "a number needs more than 64 bits");
  return result;
}

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
