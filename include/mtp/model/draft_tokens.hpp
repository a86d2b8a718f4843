// From normed rows to drafts: what all drafters end with.
#pragma once

#include <algorithm>

#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Turns normed rows into drafts: tokens[count + ahead + j] = the most likely token of rows[j]
/// under an output matrix, or, where the sequence has a rule, what the rule chooses from its
/// logits: with the noise that the model's own token at that position has, and with the drafts in
/// front of it for penalties.  rows [J, C], logits [J, V], predicted [J]
template <class S, class Backend, class Model>
void draft_tokens(context<Backend>& context,
                  const Model& model,
                  const parameter& output,
                  matrix_view<S, Backend> rows,
                  matrix_view<accumulate_t<S>, Backend> logits,
                  vector_view<token_t, Backend> predicted,
                  const sequence_view<Backend>& sequence,
                  index_t ahead) {
  linear_forward(context, logits, rows, model.values().matrix(output));
  if (!sequence.rule.exists()) {
    predict(context, predicted, logits);
    append_drafts(context, sequence, predicted, ahead);
    return;
  }
  for (index_t j = 0; j < rows.extent(0); ++j) {
    const auto token = predicted.slice(0, j, 1);  // [1]
    choose_tokens(context, token, logits.slice(0, j, 1), sequence, ahead + j);
    append_drafts(context, sequence, token, ahead + j);
  }
}

/// Bytes of workspace that logits of `rows` rows and the choice of a token want at most.
template <model_config Config, class Backend, scalar S>
constexpr index_t logits_workspace(index_t rows, index_t threads) {
  using ops = ops_of<Backend>;
  const index_t V = Config.vocab_size, C = Config.hidden_size;
  return (std::max)({ops::template linear_forward_workspace<S>(rows, V, C, threads),
                     ops::template predict_workspace<S>(rows, V, threads),
                     ops::template choose_tokens_workspace<S>(rows, V, threads)});
}

}  // namespace mtp::inline MTP_ABI
