// Embeddings whose rows are divided among the ranks that compute one model together.
#pragma once

#include "mtp/core/tensor_group.hpp"
#include "mtp/ops/combine.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// What a table [V, C] looks like to checks, of which this rank has `part` [V / R, C].
template <class Context, class Element, class Backend>
weight_view<Element, Backend> whole_of(const char* function,
                                       const Context& context,
                                       const weight_view<Element, Backend>& part) {
  return {part.data, part.outputs * ranks_of(function, context).size(), part.inputs};
}

}  // namespace detail

/// embedding_forward with a table that the R ranks of the context have in parts: rank r has rows
/// [r V / R, (r + 1) V / R). All ranks get all of x, whose rows have no gaps:
///
///     x[n, c] = table[tokens[n], c]                x [N, C], table [V / R, C], tokens [N]
///
/// A row is the sum of what ranks have of it (sum_over_ranks), zeros but for one of them, so it is
/// exact; -0 becomes 0. Throws mtp::error as embedding_forward and sum_over_ranks do.
template <scalar S, class Backend>
void sharded_embedding_forward(context<Backend>& context,
                               matrix_view<S, Backend> x,
                               in_weight<S, Backend> table,
                               in_tokens<Backend> tokens) {
  constexpr const char* function = "sharded_embedding_forward";
  detail::check_embedding(function, "x", x, detail::whole_of(function, context, table), tokens);
  check(x.extent(0) <= 1 || x.stride(0) == x.extent(1),
        "sharded_embedding_forward: expected rows of x without gaps, one every ",
        x.extent(1),
        " elements, got one every ",
        x.stride(0));
  MTP_DISPATCH(sharded_embedding_forward, context, x, table, tokens);
}

/// embedding_backward with the part of a table: tokens of other ranks add nothing. Nothing is sent.
///
///     dtable[tokens[n] - r V / R, c] += dx[n, c], in the order of n     dx [N, C], dtable [V / R,
///     C]
///
/// Throws mtp::error as embedding_backward does, and unless the context has joined ranks.
template <class G, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<G, S>> sharded_embedding_backward(context<Backend>& context,
                                                                  weight_view<G, Backend> dtable,
                                                                  view<S, Shape, Backend> rows,
                                                                  in_tokens<Backend> tokens) {
  static_assert(detail::sums_of<G, S>,
                "sharded_embedding_backward: dtable must hold elements of the accumulator type of "
                "dx");
  constexpr const char* function = "sharded_embedding_backward";
  const detail::in_matrix_of<S, Backend> dx(rows);
  detail::check_embedding(function, "dx", dx, detail::whole_of(function, context, dtable), tokens);
  MTP_DISPATCH(sharded_embedding_backward, context, dtable, dx, tokens);
}

/// combine_forward with a table of which each rank has a part, as in sharded_embedding_forward. The
/// projection and the scales are whole on every rank, and so is y. Throws mtp::error as both do.
template <scalar S, class Backend>
void sharded_combine_forward(context<Backend>& context,
                             matrix_view<S, Backend> y,
                             out_vector<accumulate_t<S>, Backend> inv_hidden,
                             out_vector<accumulate_t<S>, Backend> inv_embedding,
                             in_matrix<S, Backend> hidden,
                             in_weight<S, Backend> table,
                             in_tokens<Backend> tokens,
                             in_vector<S, Backend> hidden_scale,
                             in_vector<S, Backend> embedding_scale,
                             in_weight<S, Backend> projection,
                             concat_order order,
                             double epsilon) {
  constexpr const char* function = "sharded_combine_forward";
  detail::check_combine(function,
                        hidden,
                        inv_hidden,
                        inv_embedding,
                        detail::whole_of(function, context, table),
                        tokens,
                        hidden_scale,
                        embedding_scale,
                        projection);
  detail::check_shape(function, "y", y, {hidden.extent(0), projection.outputs});
  detail::check_rows(function, "y", y);
  MTP_DISPATCH(sharded_combine_forward,
               context,
               y,
               inv_hidden,
               inv_embedding,
               hidden,
               table,
               tokens,
               hidden_scale,
               embedding_scale,
               projection,
               order,
               epsilon);
}

/// combine_backward likewise: dtable [V / R, C] is that of this rank's part, the other gradients
/// are the same on all ranks. The rows of the table are summed over ranks again, no gradient is.
/// Throws mtp::error as combine_backward and sum_over_ranks do.
template <scalar S, class Backend>
void sharded_combine_backward(context<Backend>& context,
                              matrix_view<S, Backend> dhidden,
                              out_vector<accumulate_t<S>, Backend> d_hidden_scale,
                              out_vector<accumulate_t<S>, Backend> d_embedding_scale,
                              out_weight<accumulate_t<S>, Backend> dprojection,
                              out_weight<accumulate_t<S>, Backend> dtable,
                              in_matrix<S, Backend> dy,
                              in_matrix<S, Backend> hidden,
                              in_vector<accumulate_t<S>, Backend> inv_hidden,
                              in_vector<accumulate_t<S>, Backend> inv_embedding,
                              in_weight<S, Backend> table,
                              in_tokens<Backend> tokens,
                              in_vector<S, Backend> hidden_scale,
                              in_vector<S, Backend> embedding_scale,
                              in_weight<S, Backend> projection,
                              concat_order order) {
  constexpr const char* function = "sharded_combine_backward";
  detail::check_combine(function,
                        hidden,
                        inv_hidden,
                        inv_embedding,
                        detail::whole_of(function, context, table),
                        tokens,
                        hidden_scale,
                        embedding_scale,
                        projection);
  detail::check_combine_gradients(function,
                                  dhidden,
                                  d_hidden_scale,
                                  d_embedding_scale,
                                  dprojection,
                                  dtable,
                                  dy,
                                  hidden,
                                  table,
                                  projection);
  MTP_DISPATCH(sharded_combine_backward,
               context,
               dhidden,
               d_hidden_scale,
               d_embedding_scale,
               dprojection,
               dtable,
               dy,
               hidden,
               inv_hidden,
               inv_embedding,
               table,
               tokens,
               hidden_scale,
               embedding_scale,
               projection,
               order);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(sharded_embedding_forward,
              as_dynamic_operand,
              "expected (context, x [N, C], table [V / R, C], tokens [N]), of one backend, x "
              "dynamic, writable and of the table's element type")
MTP_OPERATION(sharded_embedding_backward,
              as_dynamic_operand,
              "expected (context, dtable [V / R, C], dx [N, C], tokens [N]), of one backend")
MTP_OPERATION(sharded_combine_forward,
              as_dynamic_operand,
              "expected the arguments of combine_forward, of one backend, with a part of the table")
MTP_OPERATION(
    sharded_combine_backward,
    as_dynamic_operand,
    "expected the arguments of combine_backward, of one backend, with parts of table and dtable")
/// @endcond

}  // namespace mtp::inline MTP_ABI
