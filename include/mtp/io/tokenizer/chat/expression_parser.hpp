// Parses the expressions of chat templates, with the precedence of Jinja.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/lexer.hpp"
#include "mtp/io/tokenizer/chat/nodes.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// Reads tokens from the front; an expression at a time.
class expression_parser {
 public:
  expression_parser(std::vector<token> tokens, std::string where)
      : tokens_(std::move(tokens)), where_(std::move(where)) {}

  /// Throws mtp::error with the line in front.
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(where_, "line ", here().line, ": ", parts...);
  }

  const token& here() const { return tokens_[at_]; }
  token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(token_kind kind, std::string_view text) const {
    return here().kind == kind && here().text == text;
  }
  bool is_sign(std::string_view text) const { return is(token_kind::sign, text); }
  bool is_name(std::string_view text) const { return is(token_kind::name, text); }
  bool accept_sign(std::string_view text) { return is_sign(text) && (take(), true); }
  bool accept_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_sign(std::string_view text) {
    if (!accept_sign(text)) refuse("expected '", text, "', got ", shown());
  }
  void expect(token_kind kind, std::string_view what) {
    if (take_if(kind).kind != kind) refuse("expected ", what, ", got ", shown());
  }
  std::string expect_name() {
    if (here().kind != token_kind::name) refuse("expected a name, got ", shown());
    return take().text;
  }
  /// The current token, for messages.
  std::string shown() const {
    if (here().kind == token_kind::end) return "the end of the template";
    return here().text.empty() ? "the end of the tag" : "'" + here().text.substr(0, 60) + "'";
  }

  /// An expression. Without `conditional`, "if" does not belong to it.
  node expression(bool conditional = true) {
    const nesting level(*this);
    node value = binary(0);
    while (conditional && is_name("if")) {
      node choice = make(node_kind::conditional);
      take();
      choice.add(binary(0));
      choice.add(std::move(value));
      choice.add(accept_name("else") ? expression() : node{});
      value = std::move(choice);
    }
    return value;
  }

  /// An expression, or several with commas between them, which are a list.
  node expressions() {
    node first = expression();
    if (!is_sign(",")) return first;
    node all = make(node_kind::elements);
    all.add(std::move(first));
    while (accept_sign(",")) {
      if (here().kind == token_kind::statement_end || is_sign(")")) break;
      all.add(expression());
    }
    return all;
  }

 protected:
  /// Bounds the nesting, and so the stack.
  class nesting {
   public:
    explicit nesting(expression_parser& parser) : parser_(parser) {
      if (++parser_.depth_ > deepest) parser_.refuse("expected nesting of at most ", deepest);
    }
    nesting(const nesting&) = delete;
    nesting& operator=(const nesting&) = delete;
    ~nesting() { --parser_.depth_; }

   private:
    static constexpr int deepest = 100;
    expression_parser& parser_;
  };

  node make(node_kind kind) const { return {.kind = kind, .line = here().line}; }

 private:
  static constexpr int unary_level = 6;

  token take_if(token_kind kind) { return here().kind == kind ? take() : token{}; }

  /// The operators of each level, the weakest first.
  std::string operator_of(int level) const {
    const auto one_of = [&](std::initializer_list<std::string_view> all, token_kind kind) {
      for (const std::string_view each : all) {
        if (is(kind, each)) return std::string(each);
      }
      return std::string();
    };
    switch (level) {
      case 0:
        return one_of({"or"}, token_kind::name);
      case 1:
        return one_of({"and"}, token_kind::name);
      case 2: {
        const bool is_not_in = is_name("not") && tokens_[at_ + 1].kind == token_kind::name &&
                               tokens_[at_ + 1].text == "in";
        if (is_not_in) return "not in";
        const std::string in = one_of({"in"}, token_kind::name);
        return in.empty() ? one_of({"==", "!=", "<=", ">=", "<", ">"}, token_kind::sign) : in;
      }
      case 3:
        return one_of({"+", "-"}, token_kind::sign);
      case 4:
        return one_of({"~"}, token_kind::sign);
      default:
        return one_of({"*", "/", "//", "%"}, token_kind::sign);
    }
  }

  node binary(int level) {
    if (level == unary_level) return power();
    if (level == 2 && is_name("not")) {
      const nesting deeper(*this);
      node result = make(node_kind::unary);
      result.name = take().text;
      result.add(binary(2));
      return result;
    }
    node left = binary(level + 1);
    int comparisons = 0;
    for (std::string sign = operator_of(level); !sign.empty(); sign = operator_of(level)) {
      if (level == 2 && ++comparisons > 1) refuse("chains of comparisons are not supported");
      node result = make(node_kind::binary);
      take();
      if (sign == "not in") take();
      result.name = std::move(sign);
      result.add(std::move(left));
      result.add(binary(level + 1));
      left = std::move(result);
    }
    return left;
  }

  node power() {
    node value = unary(true);
    if (is_sign("**")) refuse("the operator ** is not supported");
    return value;
  }

  node unary(bool with_filters) {
    const nesting deeper(*this);
    node value;
    if (is_sign("-") || is_sign("+")) {
      value = make(node_kind::unary);
      value.name = take().text;
      value.add(unary(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filters ? filters(std::move(value)) : value;
  }

  node primary() {
    node value = make(node_kind::constant);
    const token first = take();
    switch (first.kind) {
      case token_kind::text: {
        std::string all = first.text;
        while (here().kind == token_kind::text) all += take().text;
        value.constant = own(std::move(all));
        return value;
      }
      case token_kind::whole:
        value.constant = static_cast<std::int64_t>(std::stoll(first.text));
        return value;
      case token_kind::real: {
        double number = 0;
        std::from_chars(first.text.data(), first.text.data() + first.text.size(), number);
        value.constant = number;
        return value;
      }
      case token_kind::name:
        return named(std::move(value), first.text);
      case token_kind::sign:
        if (first.text == "(") {
          value = is_sign(")") ? make(node_kind::elements) : expressions();
          expect_sign(")");
          return value;
        }
        if (first.text == "[") return listed();
        if (first.text == "{") return mapped();
        [[fallthrough]];
      default:
        --at_;
        refuse("expected an expression, got ", shown());
    }
  }

  node named(node value, const std::string& name) {
    if (name == "true" || name == "True") {
      value.constant = true;
    } else if (name == "false" || name == "False") {
      value.constant = false;
    } else if (name == "none" || name == "None") {
      value.constant = none{};
    } else {
      value.kind = node_kind::variable;
      value.name = name;
    }
    return value;
  }

  node listed() {
    node all = make(node_kind::elements);
    while (!is_sign("]")) {
      all.add(expression());
      if (!accept_sign(",")) break;
    }
    expect_sign("]");
    return all;
  }

  node mapped() {
    node all = make(node_kind::mapping);
    while (!is_sign("}")) {
      all.add(expression());
      expect_sign(":");
      all.add(expression());
      if (!accept_sign(",")) break;
    }
    expect_sign("}");
    return all;
  }

  node postfix(node value) {
    for (;;) {
      if (accept_sign(".")) {
        node next = make(node_kind::member);
        next.name = expect_name();
        next.add(std::move(value));
        if (is_sign("(")) {
          next.kind = node_kind::method;
          arguments(next);
        }
        value = std::move(next);
      } else if (accept_sign("[")) {
        value = subscript(std::move(value));
      } else if (is_sign("(")) {
        if (value.kind != node_kind::variable) refuse("only functions with a name can be called");
        value.kind = node_kind::call;
        arguments(value);
      } else {
        return value;
      }
    }
  }

  node subscript(node value) {
    node next = make(node_kind::index);
    next.add(std::move(value));
    const auto part = [&] { return is_sign(":") || is_sign("]") ? node{} : expression(); };
    next.add(part());
    if (next.parts.back().kind == node_kind::nothing && is_sign("]"))
      refuse("expected an index, got ']'");
    if (accept_sign(":")) {
      next.kind = node_kind::slice;
      next.add(part());
      next.add(accept_sign(":") ? part() : node{});
    }
    expect_sign("]");
    return next;
  }

  void arguments(node& call) {
    expect_sign("(");
    while (!is_sign(")")) {
      const bool is_keyword = here().kind == token_kind::name &&
                              tokens_[at_ + 1].kind == token_kind::sign &&
                              tokens_[at_ + 1].text == "=";
      if (is_keyword) {
        call.names.push_back(take().text);
        take();
      } else if (!call.names.empty()) {
        refuse("an argument without a name stands behind one with a name");
      }
      call.add(expression());
      if (!accept_sign(",")) break;
    }
    expect_sign(")");
  }

  node filters(node value) {
    for (;;) {
      if (accept_sign("|")) {
        node next = make(node_kind::filter);
        next.name = expect_name();
        next.add(std::move(value));
        if (is_sign("(")) arguments(next);
        value = std::move(next);
      } else if (accept_name("is")) {
        value = tested(std::move(value));
      } else {
        return value;
      }
    }
  }

  node tested(node value) {
    node next = make(node_kind::test);
    const bool negated = accept_name("not");
    next.name = expect_name();
    next.add(std::move(value));
    const bool has_operand =
        here().kind == token_kind::text || here().kind == token_kind::whole ||
        (here().kind == token_kind::name && !is_name("else") && !is_name("or") && !is_name("and") &&
         !is_name("is") && !is_name("if") && !is_name("in") && !is_name("not"));
    if (is_sign("(")) {
      arguments(next);
    } else if (has_operand) {
      next.add(postfix(primary()));
    }
    if (!negated) return next;
    node opposite = make(node_kind::unary);
    opposite.name = "not";
    opposite.add(std::move(next));
    return opposite;
  }

  std::vector<token> tokens_;
  std::string where_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
