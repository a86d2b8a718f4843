// From normed rows to drafts: what all drafters end with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/vocabulary.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

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
    vocabulary<Model::config>::logits(context, logits, rows, model.values().matrix(output));
    return logits;
  }
}

/// Element w of the one row of x, as a list.
template <class Element, class Backend>
vector_view<Element, Backend> as_list(const matrix_view<Element, Backend>& x, index_t w) {
  return {x.data() + w, dims<1>{1}};
}

/// The best tokens of one row of logits of a task's sequence, with their log-probabilities: those
/// of the largest logits, or, where the sequence has a rule, those that the rule chooses for
/// choose_tokens' offset `at` one after the other, each without those before it, with the noise of
/// that position (Kool, van Hoof and Welling 2019, arXiv 1903.06059: drawn without replacement).
/// tokens, log_probabilities [1, W]; row [1, V] is used up.
template <class A, class Backend>
void choose_candidates(context<Backend>& context,
                       const draft_task<Backend>& task,
                       matrix_view<token_t, Backend> tokens,
                       matrix_view<double, Backend> log_probabilities,
                       matrix_view<A, Backend> row,
                       index_t at) {
  if (!task.sequence.rule.exists()) {
    best_tokens(context, tokens, log_probabilities, row);
  } else {
    if (task.before_choice != nullptr) {
      (*task.before_choice)(at);
    }
    for (index_t w = 0; w < tokens.extent(1); ++w) {
      choose_tokens(context, as_list(tokens, w), row, task.sequence, at);
      token_log_probabilities(context, as_list(log_probabilities, w), row, as_list(tokens, w));
      exclude_tokens(context, row, as_list(tokens, w));
    }
  }
}

/// The candidates of the position count + ahead. The best one becomes a draft, so that penalties on
/// the next position see it.  row [1, V] is used up.
template <class A, class Backend>
void draft_candidates(context<Backend>& context,
                      const draft_task<Backend>& task,
                      matrix_view<A, Backend> row,
                      index_t ahead) {
  const auto tokens = task.candidates.slice(0, ahead, 1);  // [1, W]
  choose_candidates(
      context, task, tokens, task.candidate_log_probabilities.slice(0, ahead, 1), row, ahead);
  append_drafts(context, task.sequence, as_list(tokens, 0), ahead);
}

/// Turns normed rows into drafts of sequences: rows_of(task) rows for each task, one after the
/// other. tokens[count + ahead + j] = the most likely token of the task's row j under an output
/// matrix, or, where the sequence has a rule, what the rule chooses from its logits: with the noise
/// that the model's own token at that position has, and with the drafts in front of it for
/// penalties; or, where the task has weights, what draw_drafts draws.  rows [J, C], room for logits
/// [J, V], predicted [J]. Where a task drafts a tree, its candidates at depth ahead + j + 1 are
/// those of the task's row j: draft_candidates.
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
  const bool apart = std::any_of(tasks.begin(), tasks.end(), [](const auto& task) {
    return task.sequence.rule.exists() || task.drafts_tree();
  });
  if (!apart) {
    predict(context, predicted, logits);
  }
  index_t first = 0;
  for (const draft_task<Backend>& task : tasks) {
    const index_t own = rows_of(task);
    const auto chosen = predicted.slice(0, first, own);  // [own]
    const auto from = logits.slice(0, first, own);       // [own, V]
    if (task.drafts_tree()) {
      if constexpr (decodes_trees<Backend>) {
        for (index_t j = 0; j < own; ++j) {
          draft_candidates(context, task, from.slice(0, j, 1), ahead + j);
        }
      }
    } else if (!task.sequence.rule.exists()) {
      if (apart) {
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
  const index_t V = Config.vocab_size;
  return (std::max)({vocabulary<Config>::template logits_bytes<Backend, S>(rows, threads),
                     ops::template predict_workspace<S>(rows, V, threads),
                     ops::template choose_tokens_workspace<S>(rows, V, threads)});
}

}  // namespace mtp::inline MTP_ABI
