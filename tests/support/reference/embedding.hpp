// Reference of ops/embedding.hpp.
#pragma once

#include <vector>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// x[n, c] = table[tokens[n], c]
inline array<2> embedding_forward(const array<2>& table, const std::vector<token_t>& tokens) {
  array<2> x({static_cast<index_t>(tokens.size()), table.size(1)});
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t c = 0; c < x.size(1); ++c) {
      x(n, c) = table(tokens[static_cast<std::size_t>(n)], c);
    }
  }
  return x;
}

/// dtable[tokens[n], c] += dx[n, c]
inline array<2> embedding_backward(array<2> dtable,
                                   const array<2>& dx,
                                   const std::vector<token_t>& tokens) {
  for (index_t n = 0; n < dx.size(0); ++n) {
    for (index_t c = 0; c < dx.size(1); ++c) {
      dtable(tokens[static_cast<std::size_t>(n)], c) += dx(n, c);
    }
  }
  return dtable;
}

}  // namespace mtp::test::reference
