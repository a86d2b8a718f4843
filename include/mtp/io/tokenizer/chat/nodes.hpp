// The tree of a chat template.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/value.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// What a node is; behind it, what its parts are.
enum class node_kind {
  sequence,    ///< statements
  data,        ///< `constant`
  output,      ///< an expression
  choice,      ///< condition, sequence, what else
  loop,        ///< sequence of values, filter or nothing, body, what else; `names`: variables
  assignment,  ///< an expression; `names`: variables
  member_assignment,  ///< an expression; `names`: a namespace and its member
  block_assignment,   ///< a sequence; `names`: a variable
  leave,              ///< {% break %}
  next,               ///< {% continue %}
  constant,           ///< `constant`
  variable,           ///< `name`
  elements,           ///< elements
  mapping,            ///< keys and values by turns
  member,             ///< a value; `name`: x.name
  index,              ///< a value and an index
  slice,              ///< a value, begin, end, step
  call,               ///< arguments; `name`: a function
  method,             ///< a value, then arguments; `name`
  filter,             ///< a value, then arguments; `name`
  test,               ///< a value, then arguments; `name`
  unary,              ///< an operand; `name`: not, - or +
  binary,             ///< two operands; `name`: the operator
  conditional,        ///< a condition, its value, the other value or nothing
  nothing,            ///< a part that is not there
};

/// A node. The last parts of a call are keyword arguments, as many as `names` has.
struct node {
  node_kind kind = node_kind::nothing;
  int line = 0;
  std::string name{};
  std::vector<std::string> names{};
  value constant{};
  std::vector<node> parts{};
  int height = 1;  ///< levels of the tree

  /// Adds a part. Bounds the height, and so the stack of whoever goes through the tree.
  void add(node part) {
    constexpr int most = 400;
    height = (std::max)(height, part.height + 1);
    check(height <= most, "chat_template: line ", line, ": expected nesting of at most ", most);
    parts.push_back(std::move(part));
  }
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
