// Values as JSON, as the filter tojson of chat templates writes them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/operations.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// Writes values as Python's json.dumps with ensure_ascii=False does. Characters of messages are
/// still those of messages.
class json_text {
 public:
  /// `indent`: blanks for each level, or -1 for one line.
  explicit json_text(int indent) : indent_(indent) {}

  chat_text operator()(const value& x) {
    write(x, 0);
    return std::move(all_);
  }

 private:
  void add(std::string own, bool outside = false) {
    all_.append(chat_text(std::move(own), outside));
  }

  void new_line(int level) {
    if (indent_ >= 0) add("\n" + std::string(static_cast<std::size_t>(indent_ * level), ' '));
  }

  void write(const value& x, int level) {
    check(level < 64, "tojson: expected nesting of less than 64");
    if (x.is<chat_text>()) {
      quote(x.characters());
    } else if (x.is<none>()) {
      add("null");
    } else if (x.is<bool>()) {
      add(x.as<bool>() ? "true" : "false");
    } else if (x.is_number()) {
      all_.append(text_of(x));
    } else if (x.is_list()) {
      write_all(x.elements(), '[', ']', level, [&](const value& each) { write(each, level + 1); });
    } else {
      check(x.is_mapping(), "tojson: expected a value of JSON, got ", x.kind());
      write_all(x.mapping(), '{', '}', level, [&](const auto& each) {
        quote(each.first);
        add(": ");
        write(each.second, level + 1);
      });
    }
  }

  template <class All, class Each>
  void write_all(const All& all, char open, char close, int level, Each&& write_each) {
    add(std::string(1, open));
    bool is_first = true;
    for (const auto& each : all) {
      if (!is_first) add(indent_ >= 0 ? "," : ", ");
      is_first = false;
      new_line(level + 1);
      write_each(each);
    }
    if (!is_first) new_line(level);
    add(std::string(1, close));
  }

  void quote(const chat_text& x) {
    constexpr std::string_view special = "\"\\\n\r\t\b\f", letters = "\"\\nrtbf";
    constexpr std::string_view digits = "0123456789abcdef";
    add("\"");
    for (std::size_t i = 0; i < x.size(); ++i) {
      const char c = x.bytes()[i];
      std::string shown(1, c);
      if (const std::size_t found = special.find(c); found != std::string_view::npos) {
        shown = {'\\', letters[found]};
      } else if (static_cast<unsigned char>(c) < 0x20) {
        shown = {'\\', 'u', '0', '0', digits[static_cast<std::size_t>(c) >> 4], digits[c & 0xf]};
      }
      add(std::move(shown), x.is_outside(i));
    }
    add("\"");
  }

  int indent_;
  chat_text all_;
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
