// The input of a multi-token prediction module: a projection of a hidden state and an embedding.
#pragma once

#include "mtp/ops/concat_order.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Checks the arguments that combine_forward and its gradient share.
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

/// Checks the gradients of combine_forward against what they are gradients of.
template <class Hidden, class Scale, class Gradient, class Rows, class Weight>
void check_combine_gradients(const char* function,
                             const Hidden& dhidden,
                             const Scale& d_hidden_scale,
                             const Scale& d_embedding_scale,
                             const Gradient& dprojection,
                             const Gradient& dtable,
                             const Rows& dy,
                             const Rows& hidden,
                             const Weight& table,
                             const Weight& projection) {
  const index_t C = hidden.extent(1);
  check_shape(function, "dhidden", dhidden, hidden.shape());
  check_rows(function, "dhidden", dhidden);
  check_shape(function, "dy", dy, {hidden.extent(0), projection.outputs});
  check_rows(function, "dy", dy);
  check_shape(function, "d_hidden_scale", d_hidden_scale, dims<1>{C});
  check_rows(function, "d_hidden_scale", d_hidden_scale);
  check_shape(function, "d_embedding_scale", d_embedding_scale, dims<1>{C});
  check_rows(function, "d_embedding_scale", d_embedding_scale);
  check_weight(function, "dprojection", dprojection, projection.outputs, 2 * C);
  check_weight(function, "dtable", dtable, table.outputs, C);
}

}  // namespace detail

/// y[n] = M [ RMSNorm(hidden[n]) ; RMSNorm(table[tokens[n]]) ]  with the two norms' own scales;
/// with concat_order::embedding_first, the halves are swapped (DeepSeek-V3, arXiv
/// 2412.19437, equation 21).
///
/// y [N, C'], hidden [N, C], table [V, C], tokens [N], scales [C], projection M [C', 2C];
/// inv_hidden and inv_embedding [N] receive 1 / rms of the rows, in accumulate_t of the elements,
/// which backward reads. The concatenation is not stored for backward, which computes the normed
/// rows again. Row-invariant for as many rows as linear_forward is. Throws mtp::error on
/// wrong shapes and as embedding_forward does on tokens.
template <scalar S, class Backend>
void combine_forward(context<Backend>& context,
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
  detail::check_combine("combine_forward",
                        hidden,
                        inv_hidden,
                        inv_embedding,
                        table,
                        tokens,
                        hidden_scale,
                        embedding_scale,
                        projection);
  detail::check_shape("combine_forward", "y", y, {hidden.extent(0), projection.outputs});
  detail::check_rows("combine_forward", "y", y);
  MTP_DISPATCH(combine_forward,
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

/// Gradients of combine_forward: dhidden [N, C] is overwritten (=); d_hidden_scale,
/// d_embedding_scale [C], dprojection [C', 2C] and dtable [V, C] are added to (+=) and hold
/// accumulate_t of the elements. If dtable has no data, the embedding gets no gradient.
/// dhidden must not overlap dy or hidden. Throws as combine_forward does.
template <scalar S, class Backend>
void combine_backward(context<Backend>& context,
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
  detail::check_combine("combine_backward",
                        hidden,
                        inv_hidden,
                        inv_embedding,
                        table,
                        tokens,
                        hidden_scale,
                        embedding_scale,
                        projection);
  detail::check_combine_gradients("combine_backward",
                                  dhidden,
                                  d_hidden_scale,
                                  d_embedding_scale,
                                  dprojection,
                                  dtable,
                                  dy,
                                  hidden,
                                  table,
                                  projection);
  MTP_DISPATCH(combine_backward,
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
MTP_OPERATION(
    combine_forward,
    as_dynamic_operand,
    "expected the arguments of its declaration in ops/combine.hpp, of one backend, inv_hidden "
    "and inv_embedding of the accumulator type, the others of one element type")
MTP_OPERATION(
    combine_backward,
    as_dynamic_operand,
    "expected the arguments of its declaration in ops/combine.hpp, of one backend, gradients of "
    "parameters and inverses of the accumulator type, the others of one element type")
/// @endcond

}  // namespace mtp::inline MTP_ABI
