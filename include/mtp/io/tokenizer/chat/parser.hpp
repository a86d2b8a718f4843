// Parses chat templates: texts, expressions and statements.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "mtp/io/tokenizer/chat/expression_parser.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// Parses a whole template. What Jinja has and this does not is refused by its name.
class parser : private expression_parser {
 public:
  parser(std::string_view source, const std::string& where)
      : expression_parser(lexer(source, where).tokens(), where) {}

  node parse() { return sequence({}); }

 private:
  /// Statements up to one of these, whose name is then the current token.
  node sequence(std::initializer_list<std::string_view> ends) {
    const nesting level(*this);
    node all = make(node_kind::sequence);
    for (;;) {
      if (here().kind == token_kind::end) return all;
      if (here().kind == token_kind::data) {
        node data = make(node_kind::data);
        data.constant = own(take().text);
        all.add(std::move(data));
      } else if (here().kind == token_kind::expression_begin) {
        take();
        node output = make(node_kind::output);
        output.add(expressions());
        expect(token_kind::expression_end, "'}}'");
        all.add(std::move(output));
      } else {
        take();
        for (const std::string_view end : ends) {
          if (is_name(end)) return all;
        }
        all.add(statement());
      }
    }
  }

  void close() { expect(token_kind::statement_end, "'%}'"); }
  void close(std::string_view name) {
    if (!accept_name(name)) refuse("expected {% ", name, " %}, got ", shown());
    close();
  }

  node statement() {
    const int line = here().line;
    const std::string name = expect_name();
    node result;
    if (name == "if") {
      result = choice();
    } else if (name == "for") {
      result = loop();
    } else if (name == "set") {
      result = assignment();
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) refuse("{% ", name, " %} stands outside of a loop");
      result = make(name == "break" ? node_kind::leave : node_kind::next);
      close();
    } else if (name == "generation") {  // marks what a model has written, for training
      close();
      result = sequence({"endgeneration"});
      close("endgeneration");
    } else {
      refuse("{% ", name, " %} is not supported");
    }
    result.line = line;
    return result;
  }

  /// Behind "if" or "elif".
  node choice() {
    const nesting level(*this);
    node result = make(node_kind::choice);
    result.add(expressions());
    close();
    result.add(sequence({"elif", "else", "endif"}));
    if (accept_name("elif")) {
      result.add(choice());
      return result;
    }
    if (accept_name("else")) {
      close();
      result.add(sequence({"endif"}));
    } else {
      result.add({});
    }
    close("endif");
    return result;
  }

  node loop() {
    node result = make(node_kind::loop);
    do {
      result.names.push_back(expect_name());
    } while (accept_sign(","));
    if (!accept_name("in")) refuse("expected 'in', got ", shown());
    result.add(expression(false));
    result.add(accept_name("if") ? expression() : node{});
    if (is_name("recursive")) refuse("recursive loops are not supported");
    close();
    ++loops_;
    result.add(sequence({"else", "endfor"}));
    --loops_;
    if (accept_name("else")) {
      close();
      result.add(sequence({"endfor"}));
    } else {
      result.add({});
    }
    close("endfor");
    return result;
  }

  node assignment() {
    node result = make(node_kind::assignment);
    result.names.push_back(expect_name());
    if (accept_sign(".")) {
      result.kind = node_kind::member_assignment;
      result.names.push_back(expect_name());
    }
    while (result.kind == node_kind::assignment && accept_sign(",")) {
      result.names.push_back(expect_name());
    }
    if (accept_sign("=")) {
      result.add(expressions());
      close();
      return result;
    }
    if (result.names.size() != 1) refuse("expected '=', got ", shown());
    if (is_sign("|")) refuse("filters of a block are not supported");
    result.kind = node_kind::block_assignment;
    close();
    result.add(sequence({"endset"}));
    close("endset");
    return result;
  }

  int loops_ = 0;
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
