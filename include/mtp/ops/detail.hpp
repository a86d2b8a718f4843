// What the contracts of operations share: argument types that do not take part in deduction, and
// checks.
#pragma once

#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

// Argument types of operations. The first view of a call decides on element type and backend; the
// others convert to it, so static shapes and mutable views may be passed where dynamic, constant
// ones are read.

/// A vector that an operation reads. As an argument it converts from a view of any shape of rank 1,
/// of constant elements or not: another argument decides on S and Backend.
template <class S, class Backend>
using in_vector = std::type_identity_t<vector_view<const S, Backend>>;
/// A vector that an operation writes.
template <class S, class Backend>
using out_vector = std::type_identity_t<vector_view<S, Backend>>;
/// A matrix that an operation reads.
template <class S, class Backend>
using in_matrix = std::type_identity_t<matrix_view<const S, Backend>>;
/// A matrix that an operation writes.
template <class S, class Backend>
using out_matrix = std::type_identity_t<matrix_view<S, Backend>>;
/// Rows of heads that an operation reads.  [N, heads, E]
template <class S, class Backend>
using in_heads = std::type_identity_t<view<const S, dims<3>, Backend>>;
/// Rows of heads that an operation writes.  [N, heads, E]
template <class S, class Backend>
using out_heads = std::type_identity_t<view<S, dims<3>, Backend>>;
/// A weight that an operation reads.
template <class S, class Backend>
using in_weight = std::type_identity_t<weight_view<const S, Backend>>;
/// A weight, or the gradient of one, that an operation writes.
template <class S, class Backend>
using out_weight = std::type_identity_t<weight_view<S, Backend>>;
/// Tokens that an operation reads.
template <class Backend>
using in_tokens = std::type_identity_t<vector_view<const token_t, Backend>>;
/// Tokens that an operation writes.
template <class Backend>
using out_tokens = std::type_identity_t<vector_view<token_t, Backend>>;
/// Positions of rows in their sequence.
template <class Backend>
using in_positions = std::type_identity_t<vector_view<const index_t, Backend>>;
/// A matrix of numbers in the type that sums over elements of S are kept in.
template <class S, class Backend>
using in_sums = in_matrix<accumulate_t<std::remove_const_t<S>>, Backend>;
/// The same, to write.
template <class S, class Backend>
using out_sums = out_matrix<accumulate_t<std::remove_const_t<S>>, Backend>;

namespace detail {

/// The shape of a vector or a matrix, whose sizes may be static.
template <class Shape>
concept vector_shape = extents_type<Shape> && Shape::rank == 1;
template <class Shape>
concept matrix_shape = extents_type<Shape> && Shape::rank == 2;

/// An element type of a view that is read.
template <class S>
concept scalar_or_const = scalar<std::remove_const_t<S>>;

/// G is what sums over elements of S are kept in: the type of gradients of parameters.
template <class G, class S>
inline constexpr bool sums_of = [] {
  if constexpr (scalar<std::remove_const_t<S>>) {
    return std::is_same_v<G, accumulate_t<std::remove_const_t<S>>>;
  } else {
    return false;
  }
}();

/// A product's result may keep the precision of its sums.
template <class Y, class S>
inline constexpr bool result_of = std::is_same_v<Y, std::remove_const_t<S>> || sums_of<Y, S>;

template <class S, class Backend>
using in_matrix_of = matrix_view<const std::remove_const_t<S>, Backend>;

template <class View>
void check_shape(const char* function,
                 const char* name,
                 const View& actual,
                 const typename View::shape_type& expected) {
  check(actual.shape() == expected,
        function,
        ": expected ",
        name,
        " of shape ",
        expected,
        ", got ",
        actual.shape());
}

/// The elements of a row lie side by side.
template <class View>
void check_rows(const char* function, const char* name, const View& rows) {
  check(rows.stride(View::rank - 1) == 1 || rows.extent(View::rank - 1) <= 1,
        function,
        ": the last dimension of ",
        name,
        " must have stride 1, got ",
        rows.stride(View::rank - 1));
}

/// [N, C] seen as [N, 1, C].
template <class Element, class Backend>
view<Element, dims<3>, Backend> as_heads(const matrix_view<Element, Backend>& rows) {
  return {rows.data(), {rows.extent(0), 1, rows.extent(1)}, {rows.stride(0), 0, rows.stride(1)}};
}

/// [N] seen as [N, 1].
template <class Element, class Backend>
matrix_view<Element, Backend> as_column(const vector_view<Element, Backend>& values) {
  return {values.data(), {values.extent(0), 1}, {values.stride(0), 0}};
}

template <class View, class Table>
void check_rope(
    const char* function, const View& x, const Table& table, index_t length, index_t first) {
  check_rows(function, "x", x);
  check_rows(function, "table", table);
  check(x.extent(2) % 2 == 0 && x.extent(2) == table.extent(1),
        function,
        ": expected an even head width equal to the table's ",
        table.extent(1),
        ", got ",
        x.extent(2));
  check(length > 0 && x.extent(0) % length == 0,
        function,
        ": ",
        x.extent(0),
        " rows are not a multiple of length ",
        length);
  check(first >= 0 && length <= table.extent(0) - first,
        function,
        ": positions [",
        first,
        ", ",
        first,
        " + ",
        length,
        ") do not lie in the table of ",
        table.extent(0));
}

template <class Rows, class Table, class Tokens>
void check_embedding(const char* function,
                     const char* name,
                     const Rows& rows,
                     const Table& table,
                     const Tokens& tokens) {
  check_rows(function, name, rows);
  check_rows(function, "tokens", tokens);
  check(rows.extent(0) == tokens.extent(0) && rows.extent(1) == table.inputs,
        function,
        ": expected ",
        name,
        " of shape [",
        tokens.extent(0),
        ", ",
        table.inputs,
        "], got ",
        rows.shape());
  if constexpr (backend_traits<typename Rows::backend_type>::is_host_memory) {
    for (index_t n = 0; n < tokens.extent(0); ++n) {
      check(tokens(n) >= 0 && tokens(n) < table.outputs,
            function,
            ": token ",
            tokens(n),
            " at position ",
            n,
            " does not lie in [0, ",
            table.outputs,
            ")");
    }
  }
}

template <class Queries, class Keys, class Values>
void check_attention(
    const char* function, const Queries& q, const Keys& k, const Values& v, index_t batch) {
  check_rows(function, "q", q);
  check_rows(function, "k", k);
  check_rows(function, "v", v);
  check_shape(function, "v", v, k.shape());
  check_shape(function, "k", k, {q.extent(0), k.extent(1), q.extent(2)});
  check(k.extent(1) > 0 && q.extent(1) % k.extent(1) == 0,
        function,
        ": ",
        q.extent(1),
        " query heads are not a multiple of ",
        k.extent(1),
        " key/value heads");
  check(batch > 0 && q.extent(0) % batch == 0,
        function,
        ": ",
        q.extent(0),
        " rows are not a multiple of batch ",
        batch);
}

/// What attention_backward and its like are given.
template <class Dq, class Dk, class Heads, class Statistics>
void check_attention_backward(const char* function,
                              const Dq& dq,
                              const Dk& dk,
                              const Dk& dv,
                              const Heads& dout,
                              const Heads& q,
                              const Heads& k,
                              const Heads& v,
                              const Heads& out,
                              const Statistics& statistics,
                              index_t batch) {
  check_attention(function, q, k, v, batch);
  check_shape(function, "dq", dq, q.shape());
  check_shape(function, "dk", dk, k.shape());
  check_shape(function, "dv", dv, v.shape());
  check_shape(function, "dout", dout, q.shape());
  check_shape(function, "out", out, q.shape());
  check_shape(function, "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  check_rows(function, "dq", dq);
  check_rows(function, "dk", dk);
  check_rows(function, "dv", dv);
  check_rows(function, "dout", dout);
  check_rows(function, "out", out);
  check_rows(function, "statistics", statistics);
}

/// A cache fits heads k [M, G, E] at consecutive positions inside it.
template <class Cache, class Heads, class Positions>
void check_cache(const char* function,
                 const Cache& cache,
                 const Heads& k,
                 const Positions& positions) {
  check(cache.num_key_value_heads == k.extent(1) && cache.head_dim == k.extent(2),
        function,
        ": expected a cache of ",
        k.extent(1),
        " heads of width ",
        k.extent(2),
        ", got ",
        cache.num_key_value_heads,
        " of ",
        cache.head_dim);
  check_shape(function, "positions", positions, dims<1>{k.extent(0)});
  check_rows(function, "positions", positions);
  if constexpr (backend_traits<typename Heads::backend_type>::is_host_memory) {
    for (index_t m = 0; m < positions.extent(0); ++m) {
      check(positions(m) == positions(0) + m,
            function,
            ": positions must be consecutive, got ",
            positions(m),
            " as number ",
            m,
            " behind ",
            positions(0));
      check(positions(m) >= 0 && positions(m) < cache.capacity,
            function,
            ": position ",
            positions(m),
            " does not lie in a cache of ",
            cache.capacity);
    }
  }
}

template <class Losses, class Predicted, class Hidden, class Weight, class Targets>
void check_cross_entropy(const char* function,
                         const Losses& losses,
                         const Predicted& predicted,
                         const Hidden& hidden,
                         const Weight& w,
                         const Targets& targets) {
  check_rows(function, "hidden", hidden);
  check(w.inputs == hidden.extent(1) && w.outputs > 0,
        function,
        ": expected w of shape [V, ",
        hidden.extent(1),
        "], got [",
        w.outputs,
        ", ",
        w.inputs,
        "]");
  check_shape(function, "losses", losses, targets.shape());
  check(targets.extent(0) == hidden.extent(0),
        function,
        ": expected targets of ",
        hidden.extent(0),
        " rows, got ",
        targets.extent(0));
  check_rows(function, "predicted", predicted);
  check(predicted.extent(0) == hidden.extent(0),
        function,
        ": expected room for ",
        hidden.extent(0),
        " predictions, got ",
        predicted.extent(0));
  if constexpr (backend_traits<typename Hidden::backend_type>::is_host_memory) {
    for (index_t r = 0; r < targets.extent(0); ++r) {
      for (index_t j = 0; j < targets.extent(1); ++j) {
        check(targets(r, j) < w.outputs,
              function,
              ": target ",
              targets(r, j),
              " at row ",
              r,
              " does not lie in [0, ",
              w.outputs,
              ")");
      }
    }
  }
}

template <class Weight>
void check_weight(
    const char* function, const char* name, const Weight& weight, index_t outputs, index_t inputs) {
  check(weight.outputs == outputs && weight.inputs == inputs,
        function,
        ": expected ",
        name,
        " of shape [",
        outputs,
        ", ",
        inputs,
        "], got [",
        weight.outputs,
        ", ",
        weight.inputs,
        "]");
}

/// What combine_forward and its gradient are given.
template <class Hidden, class Inverse, class Table, class Tokens, class Scale, class Projection>
void check_combine(const char* function,
                   const Hidden& hidden,
                   const Inverse& inv_hidden,
                   const Inverse& inv_embedding,
                   const Table& table,
                   const Tokens& tokens,
                   const Scale& hidden_scale,
                   const Scale& embedding_scale,
                   const Projection& projection) {
  const index_t N = hidden.extent(0), C = hidden.extent(1);
  check_embedding(function, "hidden", hidden, table, tokens);
  check_shape(function, "inv_hidden", inv_hidden, dims<1>{N});
  check_shape(function, "inv_embedding", inv_embedding, dims<1>{N});
  check_shape(function, "hidden_scale", hidden_scale, dims<1>{C});
  check_shape(function, "embedding_scale", embedding_scale, dims<1>{C});
  check_rows(function, "inv_hidden", inv_hidden);
  check_rows(function, "inv_embedding", inv_embedding);
  check_rows(function, "hidden_scale", hidden_scale);
  check_rows(function, "embedding_scale", embedding_scale);
  check_weight(function, "projection", projection, projection.outputs, 2 * C);
}

/// Rows of a stream and the ring that keeps the latest of them.
template <class Ring, class Rows, class Positions>
void check_ring(const char* function,
                const Ring& ring,
                const Rows& rows,
                const Positions& positions) {
  check_rows(function, "ring", ring);
  check_rows(function, "rows", rows);
  check(rows.extent(1) == ring.extent(1) && rows.extent(0) <= ring.extent(0),
        function,
        ": expected at most ",
        ring.extent(0),
        " rows of ",
        ring.extent(1),
        " elements, got ",
        rows.shape());
  check_shape(function, "positions", positions, dims<1>{rows.extent(0)});
  check_rows(function, "positions", positions);
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI
