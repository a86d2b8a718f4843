// Cuts a chat template into texts and tokens, as Jinja does with trim_blocks and lstrip_blocks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/unicode.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// The kinds of tokens.
enum class token_kind {
  data,              ///< a text outside of all braces
  expression_begin,  ///< {{
  expression_end,    ///< }}
  statement_begin,   ///< {%
  statement_end,     ///< %}
  name,
  text,
  whole,
  real,
  sign,  ///< an operator or a bracket
  end,   ///< of the template
};

/// A token. `text` has its characters, without quotes and escapes.
struct token {
  token_kind kind = token_kind::end;
  std::string text;
  int line = 1;
};

/// Cuts the whole template. Whitespace is taken away as Jinja takes it: with a minus sign at a
/// brace on that side; the newline behind a statement or a comment; the blanks in front of it if
/// nothing else is on the line; and one newline at the end of the template.
class lexer {
 public:
  lexer(std::string_view source, const std::string& where) : where_(where) {
    for (std::size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\r') {
        source_ += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      } else {
        source_ += source[i];
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<token> tokens() {
    while (at_ < source_.size()) {
      const std::size_t brace = next_brace();
      const std::string data = source_.substr(at_, brace - at_);
      if (brace == source_.size()) {
        add(token_kind::data, data);
        at_ = brace;
        break;
      }
      const char kind = source_[brace + 1];
      const char sign = brace + 2 < source_.size() ? source_[brace + 2] : '\0';
      const std::string kept = before(data, kind, sign);
      if (!kept.empty()) add(token_kind::data, kept);
      line_ += static_cast<int>(std::count(data.begin(), data.end(), '\n') -
                                std::count(kept.begin(), kept.end(), '\n'));
      at_ = brace + (sign == '-' || sign == '+' ? 3 : 2);
      if (kind == '#') {
        comment();
      } else {
        add(kind == '{' ? token_kind::expression_begin : token_kind::statement_begin, "");
        inside(kind == '{' ? '}' : '%');
      }
      at_line_start_ = source_[at_ - 1] == '\n';
    }
    add(token_kind::end, "");
    return std::move(tokens_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(where_, "line ", line_, ": ", parts...);
  }

  static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  void add(token_kind kind, std::string text) {
    const auto lines = std::count(text.begin(), text.end(), '\n');
    tokens_.push_back({kind, std::move(text), line_});
    if (kind == token_kind::data) line_ += static_cast<int>(lines);
  }

  std::size_t next_brace() const {
    for (std::size_t at = at_; at + 1 < source_.size(); ++at) {
      const char next = source_[at + 1];
      if (source_[at] == '{' && (next == '{' || next == '%' || next == '#')) return at;
    }
    return source_.size();
  }

  /// What stays of the text in front of a brace.
  std::string before(std::string data, char kind, char sign) const {
    if (sign == '-') {
      while (!data.empty() && is_blank(data.back())) data.pop_back();
    } else if (sign != '+' && kind != '{') {
      const std::size_t newline = data.rfind('\n');
      const std::size_t line = newline == std::string::npos ? 0 : newline + 1;
      const bool is_line = line > 0 || at_line_start_;
      if (is_line &&
          std::all_of(data.begin() + static_cast<std::ptrdiff_t>(line), data.end(), is_blank)) {
        data.resize(line);
      }
    }
    return data;
  }

  bool follows(std::string_view what) const {
    return std::string_view(source_).substr(at_).starts_with(what);
  }

  /// Moves on by characters, counting lines.
  void skip(std::size_t count) {
    for (; count > 0; --count) line_ += source_[at_++] == '\n' ? 1 : 0;
  }
  void skip_blanks() {
    while (at_ < source_.size() && is_blank(source_[at_])) skip(1);
  }

  /// Behind the closing brace: `sign` stood in front of it.
  void close(char sign, bool is_expression) {
    skip(2);
    if (sign == '-') {
      skip_blanks();
    } else if (sign != '+' && !is_expression && follows("\n")) {
      skip(1);
    }
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) refuse("a comment has no end");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    skip(end - at_);
    close(sign, false);
  }

  /// The tokens up to the closing brace, which begins with `closing`.
  void inside(char closing) {
    const std::string end = {closing, '}'};
    std::string open;  // brackets
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) refuse("expected '", end, "', got the end of the template");
      const bool has_sign = source_[at_] == '-' || (source_[at_] == '+' && closing == '%');
      if (open.empty() &&
          (follows(end) || (has_sign && source_.compare(at_ + 1, end.size(), end) == 0))) {
        add(closing == '}' ? token_kind::expression_end : token_kind::statement_end, "");
        const char sign = has_sign ? source_[at_] : '\0';
        if (has_sign) skip(1);
        close(sign, closing == '}');
        return;
      }
      const char c = source_[at_];
      if (is_letter(c)) {
        std::size_t stop = at_;
        while (stop < source_.size() && (is_letter(source_[stop]) || is_digit(source_[stop])))
          ++stop;
        add(token_kind::name, source_.substr(at_, stop - at_));
        at_ = stop;
      } else if (is_digit(c)) {
        number();
      } else if (c == '\'' || c == '"') {
        quoted(c);
      } else {
        sign(open);
      }
    }
  }

  void number() {
    std::size_t stop = at_;
    const auto digits = [&] {
      while (stop < source_.size() && is_digit(source_[stop])) ++stop;
    };
    digits();
    bool is_real = false;
    if (stop + 1 < source_.size() && source_[stop] == '.' && is_digit(source_[stop + 1])) {
      is_real = true;
      ++stop;
      digits();
    }
    if (stop < source_.size() && (is_letter(source_[stop]) || stop - at_ > 18)) {
      refuse("expected a number of at most 18 digits, got '",
             source_.substr(at_, stop + 1 - at_),
             "'");
    }
    add(is_real ? token_kind::real : token_kind::whole, source_.substr(at_, stop - at_));
    at_ = stop;
  }

  void sign(std::string& open) {
    constexpr std::array<std::string_view, 23> signs{"**", "//", "==", "!=", ">=", "<=", "+", "-",
                                                     "*",  "/",  "%",  "~",  ">",  "<",  "=", ".",
                                                     ":",  "|",  ",",  "(",  "[",  "{",  ")"};
    std::string found;
    for (const std::string_view each : signs) {
      if (found.empty() && follows(each)) found = each;
    }
    if (found.empty() && (follows("]") || follows("}"))) found = source_[at_];
    if (found.empty()) refuse("expected an expression, got '", source_[at_], "'");
    if (found == "(" || found == "[" || found == "{") open += found;
    if (found == ")" || found == "]" || found == "}") {
      const char expected = found == ")" ? '(' : found == "]" ? '[' : '{';
      if (open.empty() || open.back() != expected) refuse("'", found, "' closes nothing");
      open.pop_back();
    }
    add(token_kind::sign, found);
    at_ += found.size();
  }

  void quoted(char quote) {
    const int line = line_;
    skip(1);
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        escape(text);
      } else {
        text += source_[at_];
        skip(1);
      }
    }
    if (at_ >= source_.size()) refuse("a text that begins on line ", line, " has no end");
    skip(1);
    add(token_kind::text, std::move(text));
    tokens_.back().line = line;
  }

  /// An escape of Python. Unknown ones stay as they are.
  void escape(std::string& text) {
    constexpr std::string_view letters = "ntrabfv\\'\"", meant = "\n\t\r\a\b\f\v\\'\"";
    const char c = source_[at_ + 1];
    skip(2);
    if (const std::size_t found = letters.find(c); found != std::string_view::npos) {
      text += meant[found];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string digits = source_.substr(at_, count);
      const bool is_hex = digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
      if (digits.size() != count || !is_hex) refuse("expected ", count, " digits behind \\", c);
      const unsigned long number = std::stoul(digits, nullptr, 16);
      if (number > 0x10ffff || (number >= 0xd800 && number < 0xe000)) {
        refuse("\\", c, digits, " is no character");
      }
      detail::append_character(text, static_cast<char32_t>(number));
      skip(count);
    } else if (is_digit(c)) {
      refuse("octal escapes are not supported");
    } else if (c != '\n') {
      text += '\\';
      text += c;
    }
  }

  std::string source_;
  std::string where_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;
  std::vector<token> tokens_;
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
