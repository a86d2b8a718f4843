// Values of chat templates: those of Python that templates use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mtp/io/tokenizer/chat/chat_text.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

class value;
/// The elements of a list or a tuple.
using list = std::vector<value>;
/// The entries of a mapping, in the order in which they were added.
using entries = std::vector<std::pair<chat_text, value>>;

/// What a name stands for that nobody has set.
struct undefined {
  std::string name;
};
/// Python's None.
struct none {};
/// A function of the interpreter.
struct function {
  std::string name;
};
/// An object of namespace(), whose entries can be set.
struct space {
  std::shared_ptr<entries> all;
};

/// A value of a template. Lists and mappings are shared and never change.
class value {
 public:
  using any = std::variant<undefined,
                           none,
                           bool,
                           std::int64_t,
                           double,
                           chat_text,
                           std::shared_ptr<const list>,
                           std::shared_ptr<const entries>,
                           space,
                           function>;

  value() = default;
  value(bool truth) : any_(truth) {}            // NOLINT: values are written as in Python
  value(std::int64_t number) : any_(number) {}  // NOLINT
  value(double number) : any_(number) {}        // NOLINT
  value(chat_text characters) : any_(std::move(characters)) {}                   // NOLINT
  value(list all) : any_(std::make_shared<const list>(std::move(all))) {}        // NOLINT
  value(entries all) : any_(std::make_shared<const entries>(std::move(all))) {}  // NOLINT
  value(undefined what) : any_(std::move(what)) {}                               // NOLINT
  value(none nothing) : any_(nothing) {}                                         // NOLINT
  value(space names) : any_(std::move(names)) {}                                 // NOLINT
  value(function what) : any_(std::move(what)) {}                                // NOLINT
  /// Pointers would become truth values.
  value(const void*) = delete;

  template <class Type>
  bool is() const {
    return std::holds_alternative<Type>(any_);
  }
  bool is_list() const { return is<std::shared_ptr<const list>>(); }
  bool is_mapping() const { return is<std::shared_ptr<const entries>>(); }
  /// Whether it counts: a truth value or a number.
  bool is_number() const { return is<bool>() || is<std::int64_t>() || is<double>(); }

  template <class Type>
  const Type& as() const {
    return std::get<Type>(any_);
  }
  const chat_text& characters() const { return as<chat_text>(); }
  const list& elements() const { return *as<std::shared_ptr<const list>>(); }
  const entries& mapping() const { return *as<std::shared_ptr<const entries>>(); }

  /// As a whole number, of a truth value or a whole number.
  std::int64_t whole() const { return is<bool>() ? as<bool>() : as<std::int64_t>(); }
  /// As a floating-point number, of any number.
  double real() const { return is<double>() ? as<double>() : static_cast<double>(whole()); }

  /// What it is, for messages.
  std::string_view kind() const {
    constexpr std::string_view names[] = {"an undefined value",
                                          "None",
                                          "a truth value",
                                          "a whole number",
                                          "a number",
                                          "a text",
                                          "a list",
                                          "a mapping",
                                          "a namespace",
                                          "a function"};
    return names[any_.index()];
  }

 private:
  any any_;
};

/// A text of the template itself.
inline value own(std::string bytes) {
  return chat_text(std::move(bytes));
}

/// The value of a key, or nullptr.
inline const value* find(const entries& all, std::string_view key) {
  for (const auto& [name, each] : all) {
    if (name.bytes() == key) return &each;
  }
  return nullptr;
}

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
