// From normed rows to drafts: what all drafters end with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// The last row of each run of a pass, one after the other: in place where there is one run, else
/// copied to `gathered`.  rows [M, C], gathered [runs at least, C]
template <class S, class Backend>
matrix_view<S, Backend> last_rows(context<Backend>& context,
                                  const pass_rows& list,
                                  matrix_view<S, Backend> rows,
                                  matrix_view<S, Backend> gathered) {
  const std::size_t runs = list.runs().size();
  if (runs == 1) {
    return list.last(0, rows);
  }
  for (std::size_t i = 0; i < runs; ++i) {
    copy(context, gathered.slice(0, static_cast<index_t>(i), 1), list.last(i, rows));
  }
  return gathered.slice(0, 0, static_cast<index_t>(runs));
}

/// The logits of rows under an output matrix, in `logits` unless the model keeps them itself: see
/// drafting_model.  rows [J, C], logits [J, V]
template <class S, class Backend, class Model>
matrix_view<accumulate_t<S>, Backend> draft_logits(context<Backend>& context,
                                                   const Model& model,
                                                   const parameter& output,
                                                   matrix_view<S, Backend> rows,
                                                   matrix_view<accumulate_t<S>, Backend> logits) {
  if constexpr (requires { model.logits(context, rows, output, logits); }) {
    return model.logits(context, rows, output, logits);
  } else {
    linear_forward(context, logits, rows, model.values().matrix(output));
    return logits;
  }
}

/// Turns normed rows into drafts of sequences: rows_of(task) rows for each task, one after the
/// other. tokens[count + ahead + j] = the most likely token of the task's row j under an output
/// matrix, or, where the sequence has a rule, what the rule chooses from its logits: with the noise
/// that the model's own token at that position has, and with the drafts in front of it for
/// penalties; or, where the task has weights, what draw_drafts draws.  rows [J, C], room for logits
/// [J, V], predicted [J]
template <class S, class Backend, class Model, class RowsOf>
void draft_tokens(context<Backend>& context,
                  const Model& model,
                  const parameter& output,
                  matrix_view<S, Backend> rows,
                  matrix_view<accumulate_t<S>, Backend> room,
                  vector_view<token_t, Backend> predicted,
                  std::span<const draft_task<Backend>> tasks,
                  const RowsOf& rows_of,
                  index_t ahead) {
  const auto logits = draft_logits(context, model, output, rows, room);  // [J, V]
  const bool ruled = std::any_of(
      tasks.begin(), tasks.end(), [](const auto& task) { return task.sequence.rule.exists(); });
  if (!ruled) {
    predict(context, predicted, logits);
  }
  index_t first = 0;
  for (const draft_task<Backend>& task : tasks) {
    const index_t own = rows_of(task);
    const auto chosen = predicted.slice(0, first, own);  // [own]
    const auto from = logits.slice(0, first, own);       // [own, V]
    if (!task.sequence.rule.exists()) {
      if (ruled) {
        predict(context, chosen, from);
      }
      append_drafts(context, task.sequence, chosen, ahead);
    } else {
      for (index_t j = 0; j < own; ++j) {
        const auto token = chosen.slice(0, j, 1);  // [1]
        if (task.before_choice != nullptr) {
          (*task.before_choice)(ahead + j);
        }
        if (task.weights.data() == nullptr) {
          choose_tokens(context, token, from.slice(0, j, 1), task.sequence, ahead + j);
        } else {
          draw_drafts(context,
                      token,
                      task.weights.slice(0, ahead + j, 1),
                      from.slice(0, j, 1),
                      task.sequence,
                      ahead + j,
                      task.unit);
        }
        append_drafts(context, task.sequence, token, ahead + j);
      }
    }
    first += own;
  }
}

/// The first of the tasks, which draft `depth` tokens or more. Tasks stand in the order of falling
/// depth.
template <class Backend>
std::span<const draft_task<Backend>> tasks_of_depth(std::span<const draft_task<Backend>> tasks,
                                                    index_t depth) {
  std::size_t count = tasks.size();
  while (count > 0 && tasks[count - 1].depth < depth) {
    --count;
  }
  return tasks.first(count);
}

/// The most bytes of workspace that logits of `rows` rows and the choice of a token need.
template <model_config Config, class Backend, scalar S>
constexpr index_t logits_workspace(index_t rows, index_t threads) {
  using ops = ops_of<Backend>;
  const index_t V = Config.vocab_size, C = Config.hidden_size;
  return (std::max)({ops::template linear_forward_workspace<S>(rows, V, C, threads),
                     ops::template predict_workspace<S>(rows, V, threads),
                     ops::template choose_tokens_workspace<S>(rows, V, threads)});
}

}  // namespace mtp::inline MTP_ABI
