// Reference of ops/combine.hpp.
#pragma once

#include <vector>

#include "support/reference/embedding.hpp"
#include "support/reference/linear.hpp"
#include "support/reference/rms_norm.hpp"

namespace mtp::test::reference {

/// [N, C] seen as [N, 1, C], and back.
inline array<3> as_heads(const array<2>& rows) {
  return array_of<3>({rows.size(0), 1, rows.size(1)}, rows.elements);
}
inline array<2> as_rows(const array<3>& heads) {
  return array_of<2>({heads.size(0), heads.size(1) * heads.size(2)}, heads.elements);
}

/// 1 / rms of each row.
inline array<2> inverse_rms_of_rows(const array<2>& x, double epsilon) {
  return inverse_rms(as_heads(x), epsilon);
}

/// y[n, c] = x[n, c] r[n] scale[c]
inline array<2> scaled_rows(const array<2>& x, const array<2>& r, const array<1>& scale) {
  array<2> y(x.sizes);
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t c = 0; c < x.size(1); ++c) {
      y(n, c) = x(n, c) * r(n, 0) * scale(c);
    }
  }
  return y;
}

/// Columns [begin, begin + count).
inline array<2> columns_of(const array<2>& x, index_t begin, index_t count) {
  array<2> part({x.size(0), count});
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t c = 0; c < count; ++c) {
      part(n, c) = x(n, begin + c);
    }
  }
  return part;
}

/// Rows side by side.
inline array<2> beside(const array<2>& a, const array<2>& b) {
  array<2> both({a.size(0), a.size(1) + b.size(1)});
  for (index_t n = 0; n < a.size(0); ++n) {
    for (index_t c = 0; c < both.size(1); ++c) {
      both(n, c) = c < a.size(1) ? a(n, c) : b(n, c - a.size(1));
    }
  }
  return both;
}

/// The two normed halves side by side: what the projection reads.
struct combined {
  array<2> hidden;    // [N, C], normed
  array<2> embedded;  // [N, C], normed
  array<2> rows;      // [N, 2C]

  combined(const array<2>& normed_hidden, const array<2>& normed_embedded, bool hidden_first)
      : hidden(normed_hidden),
        embedded(normed_embedded),
        rows(hidden_first ? beside(hidden, embedded) : beside(embedded, hidden)) {}
};

}  // namespace mtp::test::reference
