// What the contracts of operations share: argument types that do not take part in deduction, and
// checks.
#pragma once

#include <span>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp {

/// Argument types of operations. The first view of a call decides on element type and backend; the
/// others convert to it, so static shapes and mutable views may be passed where dynamic, constant
/// ones are read.
template <class S, class Backend>
using in_vector = std::type_identity_t<vector_view<const S, Backend>>;
template <class S, class Backend>
using out_vector = std::type_identity_t<vector_view<S, Backend>>;
template <class S, class Backend>
using in_matrix = std::type_identity_t<matrix_view<const S, Backend>>;
template <class S, class Backend>
using out_matrix = std::type_identity_t<matrix_view<S, Backend>>;
template <class S, class Backend>
using in_heads = std::type_identity_t<view<const S, dims<3>, Backend>>;
template <class S, class Backend>
using out_heads = std::type_identity_t<view<S, dims<3>, Backend>>;
template <class S, class Backend>
using in_weight = std::type_identity_t<weight_view<const S, Backend>>;
template <class S, class Backend>
using out_weight = std::type_identity_t<weight_view<S, Backend>>;

namespace detail {

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

template <class View, class Table>
void check_embedding(const char* function,
                     const char* name,
                     const View& rows,
                     const Table& table,
                     std::span<const token_t> tokens) {
  check_rows(function, name, rows);
  check(rows.extent(0) == static_cast<index_t>(tokens.size()) && rows.extent(1) == table.inputs,
        function,
        ": expected ",
        name,
        " of shape [",
        tokens.size(),
        ", ",
        table.inputs,
        "], got ",
        rows.shape());
  for (std::size_t n = 0; n < tokens.size(); ++n) {
    check(tokens[n] >= 0 && tokens[n] < table.outputs,
          function,
          ": token ",
          tokens[n],
          " at position ",
          n,
          " does not lie in [0, ",
          table.outputs,
          ")");
  }
}

template <class Heads>
void check_attention(
    const char* function, const Heads& q, const Heads& k, const Heads& v, index_t batch) {
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

template <class Losses, class Hidden, class Weight, class Targets>
void check_cross_entropy(const char* function,
                         const Losses& losses,
                         std::span<token_t> predicted,
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
  check(static_cast<index_t>(predicted.size()) == hidden.extent(0),
        function,
        ": expected room for ",
        hidden.extent(0),
        " predictions, got ",
        predicted.size());
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

}  // namespace detail
}  // namespace mtp
