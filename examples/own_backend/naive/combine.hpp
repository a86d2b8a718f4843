// What a multi-token prediction module reads, in steps. Contracts: mtp/ops/combine.hpp.
#pragma once

#include <vector>

#include "mtp/ops/concat_order.hpp"
#include "products.hpp"
#include "rows.hpp"

namespace naive_types {

/// A matrix of its own.
struct owned_matrix {
  owned_matrix(index_t rows, index_t columns)
      : elements(static_cast<std::size_t>(rows * columns)),
        view(elements.data(), {rows, columns}) {}
  std::vector<double> elements;
  matrix view;  // [rows, columns]
};

struct combine_ops {
  static void combine_forward(context& run,
                              matrix y,
                              vector inv_hidden,
                              vector inv_embedding,
                              in_matrix hidden,
                              in_weight table,
                              in_tokens ids,
                              in_vector hidden_scale,
                              in_vector embedding_scale,
                              in_weight projection,
                              mtp::concat_order order,
                              double epsilon) {
    const bool hidden_first = order == mtp::concat_order::hidden_first;
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    const owned_matrix both(N, 2 * C), embedded(N, C);
    const matrix left = both.view.slice(1, hidden_first ? 0 : C, C);   // [N, C] of hidden
    const matrix right = both.view.slice(1, hidden_first ? C : 0, C);  // [N, C] of the embedding
    product_ops::embedding_forward(run, embedded.view, table, ids);
    norm(run, left, inv_hidden, hidden, hidden_scale, epsilon);
    norm(run, right, inv_embedding, embedded.view, embedding_scale, epsilon);
    product_ops::linear_forward(run, y, both.view, projection);
  }

  static void combine_backward(context& run,
                               matrix dhidden,
                               vector d_hidden_scale,
                               vector d_embedding_scale,
                               weight dprojection,
                               weight dtable,
                               in_matrix dy,
                               in_matrix hidden,
                               in_vector inv_hidden,
                               in_vector inv_embedding,
                               in_weight table,
                               in_tokens ids,
                               in_vector hidden_scale,
                               in_vector embedding_scale,
                               in_weight projection,
                               mtp::concat_order order) {
    const bool hidden_first = order == mtp::concat_order::hidden_first;
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    const index_t left = hidden_first ? 0 : C, right = hidden_first ? C : 0;
    const owned_matrix both(N, 2 * C), embedded(N, C), dboth(N, 2 * C), dembedded(N, C);
    product_ops::embedding_forward(run, embedded.view, table, ids);
    for (index_t n = 0; n < N; ++n) {
      for (index_t c = 0; c < C; ++c) {
        both.view(n, left + c) = hidden(n, c) * inv_hidden(n) * hidden_scale(c);
        both.view(n, right + c) = embedded.view(n, c) * inv_embedding(n) * embedding_scale(c);
      }
    }
    product_ops::linear_backward_weight(run, dprojection, dy, both.view);
    product_ops::linear_backward_input(run, dboth.view, dy, projection);
    norm_backward(run,
                  dhidden,
                  d_hidden_scale,
                  dboth.view.slice(1, left, C),
                  hidden,
                  inv_hidden,
                  hidden_scale);
    norm_backward(run,
                  dembedded.view,
                  d_embedding_scale,
                  dboth.view.slice(1, right, C),
                  embedded.view,
                  inv_embedding,
                  embedding_scale);
    if (dtable.data != nullptr) product_ops::embedding_backward(run, dtable, dembedded.view, ids);
  }

 private:
  /// Rows [N, C] as one head each, [N, 1, C].
  template <class Element>
  static mtp::view<Element, mtp::dims<3>, naive> one_head(mtp::matrix_view<Element, naive> rows) {
    return {rows.data(), {rows.extent(0), 1, rows.extent(1)}, {rows.stride(0), 0, rows.stride(1)}};
  }
  static void norm(
      context& run, matrix y, vector inverse, in_matrix x, in_vector scale, double epsilon) {
    const matrix column(inverse.data(), {inverse.extent(0), 1});
    row_ops::rms_norm_forward(run, one_head(y), column, one_head(x), scale, epsilon);
  }
  static void norm_backward(context& run,
                            matrix dx,
                            vector dscale,
                            in_matrix dy,
                            in_matrix x,
                            in_vector inverse,
                            in_vector scale) {
    const in_matrix column(inverse.data(), {inverse.extent(0), 1});
    const in_heads none(nullptr, {0, 0, 0});
    row_ops::rms_norm_backward(
        run, one_head(dx), dscale, one_head(dy), one_head(x), column, scale, none);
  }
};

}  // namespace naive_types
