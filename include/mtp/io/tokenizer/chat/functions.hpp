// The filters, tests, methods and functions of chat templates.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/json_text.hpp"
#include "mtp/io/tokenizer/chat/operations.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// The arguments of a call.
class arguments {
 public:
  arguments(std::string name, list all, std::vector<std::string> names)
      : name_(std::move(name)), all_(std::move(all)), names_(std::move(names)) {}

  const std::string& name() const { return name_; }
  /// How many have no name.
  std::size_t plain() const { return all_.size() - names_.size(); }

  /// The one in that place or of that name; None if there is none.
  value get(std::size_t place, std::string_view name, value otherwise = none{}) const {
    if (place < plain()) return all_[place];
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == name) return all_[plain() + i];
    }
    return otherwise;
  }
  value needed(std::size_t place, std::string_view what) const {
    check(place < plain(), name_, ": expected ", what);
    return all_[place];
  }
  chat_text needed_text(std::size_t place, std::string_view what) const {
    const value found = needed(place, what);
    check(found.is<chat_text>(), name_, ": expected a text for ", what, ", got ", found.kind());
    return found.characters();
  }
  /// Refuses more arguments than so many, and names other than these.
  void expect(std::size_t most, std::initializer_list<std::string_view> names = {}) const {
    check(plain() <= most, name_, ": expected at most ", most, " arguments, got ", plain());
    for (const std::string& each : names_) {
      check(std::find(names.begin(), names.end(), each) != names.end(),
            name_,
            ": the argument ",
            each,
            " is not supported");
    }
  }
  /// Those with names, as a mapping.
  entries named() const {
    entries result;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      result.emplace_back(chat_text(names_[i]), all_[plain() + i]);
    }
    return result;
  }

 private:
  std::string name_;
  list all_;
  std::vector<std::string> names_;
};

/// Whether Python's strip() takes a character away.
inline bool is_python_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

/// Python's strip(), lstrip() and rstrip(): without `set`, white space.
inline chat_text stripped(const chat_text& x, const value& set, bool left, bool right) {
  check(set.is<none>() || set.is<chat_text>(),
        "strip: expected a text of characters, got ",
        set.kind());
  const auto goes = [&](std::size_t place, std::size_t bytes) {
    if (set.is<none>()) return is_python_space(character_at(x.bytes(), place).value);
    const std::string each = x.bytes().substr(place, bytes);
    return contains(set, own(each));
  };
  std::size_t begin = 0, end = x.size();
  while (left && begin < end) {
    const std::size_t bytes = character_at(x.bytes(), begin).bytes;
    if (!goes(begin, bytes)) break;
    begin += bytes;
  }
  while (right && end > begin) {
    const std::size_t place = place_before(x.bytes(), end);
    if (!goes(place, end - place)) break;
    end = place;
  }
  return x.part(begin, end);
}

/// ASCII in upper or lower case, which keeps the number of bytes.
inline chat_text in_case(const chat_text& x, bool upper) {
  chat_text result;
  for (std::size_t i = 0; i < x.size(); ++i) {
    char c = x.bytes()[i];
    check(static_cast<unsigned char>(c) < 0x80, "upper and lower are supported for ASCII alone");
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    result.append(chat_text(std::string(1, c), x.is_outside(i)));
  }
  return result;
}

/// The parts of a text between separators, at most `most` cuts; without a separator, its words.
inline list split(const chat_text& x, const value& separator, std::int64_t most) {
  list parts;
  if (separator.is<none>()) {
    check(most < 0, "split: a number of cuts needs a separator");
    std::size_t begin = x.size();
    const std::vector<std::size_t> places = character_places(x.bytes());
    for (const std::size_t place : places) {
      const bool is_end =
          place == x.size() || is_python_space(character_at(x.bytes(), place).value);
      if (!is_end) begin = (std::min)(begin, place);
      if (is_end && begin < place) {
        parts.push_back(x.part(begin, place));
        begin = x.size();
      }
    }
    return parts;
  }
  check(separator.is<chat_text>() && separator.characters().size() > 0,
        "split: expected a text that is not empty, got ",
        separator.kind());
  const std::string& mark = separator.characters().bytes();
  std::size_t begin = 0;
  for (;;) {
    const std::size_t found = most == 0 ? std::string::npos : x.bytes().find(mark, begin);
    if (found == std::string::npos) break;
    parts.push_back(x.part(begin, found));
    begin = found + mark.size();
    --most;
  }
  parts.push_back(x.part(begin, x.size()));
  return parts;
}

inline chat_text joined(const list& parts, const chat_text& between) {
  chat_text all;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) all.append(between);
    all.append(text_of(parts[i]));
  }
  return all;
}

inline chat_text replaced(const chat_text& x, const chat_text& old, const chat_text& by) {
  return joined(split(x, old, -1), by);
}

/// Keys and values as lists of two.
inline list items_of(const value& x) {
  check(x.is_mapping(), "items: expected a mapping, got ", x.kind());
  list all;
  for (const auto& [key, each] : x.mapping()) all.push_back(list{key, each});
  return all;
}

/// x is name(arguments).
inline bool run_test(const value& x, const arguments& with) {
  const std::string& name = with.name();
  const bool has_operand = name == "equalto" || name == "eq" || name == "==" || name == "ne" ||
                           name == "!=" || name == "in" || name == "sameas";
  with.expect(has_operand ? 1 : 0);
  if (name == "defined") return !x.is<undefined>();
  if (name == "undefined") return x.is<undefined>();
  if (name == "none") return x.is<none>();
  if (name == "string") return x.is<chat_text>();
  if (name == "mapping") return x.is_mapping();
  if (name == "sequence" || name == "iterable") {
    return x.is<chat_text>() || x.is_list() || x.is_mapping() || x.is<undefined>();
  }
  if (name == "boolean") return x.is<bool>();
  if (name == "number") return x.is_number();
  if (name == "integer") return x.is<std::int64_t>();
  if (name == "float") return x.is<double>();
  if (name == "true") return x.is<bool>() && x.as<bool>();
  if (name == "false") return x.is<bool>() && !x.as<bool>();
  if (name == "callable") return x.is<function>();
  if (name == "odd" || name == "even") {
    return equal(arithmetic("%", x, std::int64_t{2}), std::int64_t{name == "odd" ? 1 : 0});
  }
  if (name == "equalto" || name == "eq" || name == "==") return equal(x, with.needed(0, "a value"));
  if (name == "ne" || name == "!=") return !equal(x, with.needed(0, "a value"));
  if (name == "in") return contains(with.needed(0, "a sequence"), x);
  if (name == "sameas") {
    const value other = with.needed(0, "a value");
    check(x.is<bool>() || x.is<none>() || other.is<bool>() || other.is<none>(),
          "sameas is supported for None and truth values alone");
    return x.kind() == other.kind() && equal(x, other);
  }
  fail("the test '", name, "' is not supported");
}

/// The elements whose attribute passes a test, or does not; without a test, whether it is true.
inline list selected(const value& x, const arguments& with, bool by_attribute, bool wanted) {
  const std::size_t test = by_attribute ? 1 : 0;
  list kept;
  for (const value& each : sequence_of(x)) {
    const value tested = by_attribute ? at(each, with.needed(0, "an attribute")) : each;
    bool passes = is_true(tested);
    if (with.plain() > test) {
      list operands;
      for (std::size_t i = test + 1; i < with.plain(); ++i) operands.push_back(with.get(i, ""));
      passes = run_test(tested, {with.needed_text(test, "a test").bytes(), operands, {}});
    }
    if (passes == wanted) kept.push_back(each);
  }
  return kept;
}

/// x|name(arguments).
inline value run_filter(const value& x, const arguments& with) {
  const std::string& name = with.name();
  if (name == "tojson") {
    with.expect(0, {"indent", "ensure_ascii", "sort_keys", "separators"});
    for (const char* const each : {"ensure_ascii", "sort_keys", "separators"}) {
      check(!is_true(with.get(9, each)), "tojson: the argument ", each, " is not supported");
    }
    const value indent = with.get(9, "indent");
    check(indent.is<none>() ||
              (indent.is<std::int64_t>() && indent.whole() >= 0 && indent.whole() <= 16),
          "tojson: expected an indent from 0 to 16");
    return json_text(indent.is<none>() ? -1 : static_cast<int>(indent.whole()))(x);
  }
  if (name == "default" || name == "d") {
    with.expect(2, {"default_value", "boolean"});
    const bool use = x.is<undefined>() || (is_true(with.get(1, "boolean")) && !is_true(x));
    return use ? with.get(0, "default_value", chat_text()) : x;
  }
  if (name == "join") {
    with.expect(1, {"d"});
    return joined(sequence_of(x), text_of(with.get(0, "d", chat_text())));
  }
  if (name == "replace") {
    with.expect(2);
    return replaced(text_of(x), with.needed_text(0, "what"), with.needed_text(1, "by what"));
  }
  if (name == "trim") {
    with.expect(1, {"chars"});
    return stripped(text_of(x), with.get(0, "chars"), true, true);
  }
  if (name == "map") {
    with.expect(0, {"attribute"});
    const value attribute = with.get(9, "attribute");
    check(attribute.is<chat_text>(), "map: only map(attribute='name') is supported");
    list all;
    for (const value& each : sequence_of(x)) all.push_back(at(each, attribute));
    return all;
  }
  if (name == "selectattr" || name == "rejectattr" || name == "select" || name == "reject") {
    with.expect(9);
    return selected(x, with, name.ends_with("attr"), name.starts_with("select"));
  }
  with.expect(0);
  if (name == "length" || name == "count") return length_of(x);
  if (name == "upper" || name == "lower") return in_case(text_of(x), name == "upper");
  if (name == "string") return text_of(x);
  if (name == "safe") return x;
  if (name == "list") return sequence_of(x);
  if (name == "items") return x.is<undefined>() ? list{} : items_of(x);
  if (name == "first") return at(sequence_of(x), std::int64_t{0});
  if (name == "last") return at(sequence_of(x), std::int64_t{-1});
  if (name == "reverse") return slice(x, none{}, none{}, std::int64_t{-1});
  if (name == "int" && x.is<std::int64_t>()) return x;
  fail("the filter '", name, "' is not supported for ", x.kind());
}

/// x.name(arguments).
inline value run_method(const value& x, const arguments& with) {
  const std::string& name = with.name();
  if (x.is_mapping()) {
    if (name == "get") {
      with.expect(2);
      const value found = at(x, with.needed(0, "a key"));
      return found.is<undefined>() ? with.get(1, "") : found;
    }
    if (name == "items" || name == "keys" || name == "values") {
      with.expect(0);
      if (name == "items") return items_of(x);
      if (name == "keys") return sequence_of(x);
      list all;
      for (const auto& [key, each] : x.mapping()) all.push_back(each);
      return all;
    }
  }
  if (x.is<chat_text>()) {
    const chat_text& own_text = x.characters();
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
      with.expect(1);
      return stripped(own_text, with.get(0, ""), name != "rstrip", name != "lstrip");
    }
    if (name == "startswith" || name == "endswith") {
      with.expect(1);
      const std::string part = with.needed_text(0, "a part").bytes();
      return name == "startswith" ? own_text.bytes().starts_with(part)
                                  : own_text.bytes().ends_with(part);
    }
    if (name == "split") {
      with.expect(2);
      const value most = with.get(1, "", std::int64_t{-1});
      check(most.is<std::int64_t>(), "split: expected a whole number of cuts, got ", most.kind());
      return split(own_text, with.get(0, ""), most.whole());
    }
    if (name == "replace") {
      with.expect(2);
      return replaced(own_text, with.needed_text(0, "what"), with.needed_text(1, "by what"));
    }
    if (name == "join") {
      with.expect(1);
      return joined(sequence_of(with.needed(0, "a list")), own_text);
    }
    if (name == "upper" || name == "lower") {
      with.expect(0);
      return in_case(own_text, name == "upper");
    }
  }
  fail(x.is<undefined>() ? "'" + x.as<undefined>().name + "' is undefined" : std::string(x.kind()),
       " has no supported method '",
       name,
       "'");
}

/// The names of functions.
inline bool is_function(std::string_view name) {
  return name == "raise_exception" || name == "namespace" || name == "range" || name == "dict";
}

/// name(arguments).
inline value run_function(const arguments& with) {
  const std::string& name = with.name();
  if (name == "raise_exception") {
    with.expect(1);
    fail("the template refuses this: ", text_of(with.get(0, "")).bytes());
  }
  if (name == "namespace" || name == "dict") {
    check(with.plain() == 0, name, ": only arguments with names are supported");
    entries all = with.named();
    if (name == "dict") return all;
    return space{std::make_shared<entries>(std::move(all))};
  }
  if (name == "range") {
    with.expect(3);
    const auto number = [&](std::size_t place, std::int64_t otherwise) {
      const value found = with.get(place, "", otherwise);
      check(found.is<std::int64_t>(), "range: expected whole numbers, got ", found.kind());
      return found.whole();
    };
    const bool has_begin = with.plain() > 1;
    const std::int64_t begin = has_begin ? number(0, 0) : 0, end = number(has_begin ? 1 : 0, 0);
    const std::int64_t step = number(2, 1);
    constexpr std::int64_t most = 100'000;
    check(step != 0 && std::abs(begin) <= most && std::abs(end) <= most && std::abs(step) <= most,
          "range: expected numbers up to ",
          most,
          " and a step that is not 0");
    list all;
    for (std::int64_t i = begin; step > 0 ? i < end : i > end; i += step) all.push_back(i);
    return all;
  }
  fail("the function '", name, "' is not supported");
}

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
