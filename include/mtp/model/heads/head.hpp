// Which head a configuration has, and what every head has to offer.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "mtp/model/heads/independent.hpp"
#include "mtp/model/heads/none.hpp"
#include "mtp/model/heads/parallel.hpp"
#include "mtp/model/heads/recurrent.hpp"
#include "mtp/model/heads/sequential.hpp"
#include "mtp/model/heads/shared_logit.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_ring.hpp"

namespace mtp::inline MTP_ABI {

/// The head of a configuration.
template <model_config Config, class Backend, scalar S>
using head_of = typename head_traits<Config.prediction.kind>::template head<Config, Backend, S>;

namespace detail {
/// Whether a head reads the trunk's embedding, as far as it says.
template <class Head>
constexpr bool reads_embedding() {
  if constexpr (requires { Head::reads_embedding; }) {
    return Head::reads_embedding;
  } else {
    return true;
  }
}

/// Stands for what scores rows.
struct score_stand_in {
  template <class Rows>
  void operator()(std::size_t first, Rows hidden, Rows dhidden, const parameter& output) const;
};

/// A head that is given the trunk's normed rows.
template <class Head, auto Config, class Backend, class S>
concept reads_normed_rows = Config.prediction.kind.owns_last_block ||
                            requires(const typename Head::activations& a, index_t n) {
  { Head::next_token_rows(a, n) } -> std::same_as<matrix_view<S, Backend>>;
  { a.dhidden } -> std::convertible_to<matrix_view<S, Backend>>;
};

/// Stands for a model.
struct model_stand_in {};

/// A head that drafts, or need not.
template <class Head, auto Config, class Backend, class S>
concept drafts_if_asked =
    !Config.prediction.drafts() || requires(typename Head::drafter & drafter,
                                            context<Backend>& context,
                                            const model_stand_in& model,
                                            const sequence_view<Backend>& sequence,
                                            std::span<const draft_task<Backend>> tasks,
                                            index_t n) {
  { drafter.ring() } -> std::convertible_to<row_ring<S, Backend>>;
  drafter.advance(context, model, sequence, n, n, n);
  drafter.draft(context, model, tasks);
};
}  // namespace detail

/// What a head offers to its model. none.hpp is the smallest one, independent.hpp the next to read.
///
/// - `layout`: where its parameters lie. make(cursor) places them, visit(visitor) names them,
///   in the same order.
/// - `activations`: memory for training, by make(arena, N, scratch of the trunk's backward pass).
///   Unless the head owns the last block, `dhidden` is among it, whose first N rows [N, C] are the
///   gradient of next_token_rows.
/// - `workspace(N, length, threads)`: bytes that its operations take from the context in a training
///   pass, apart from scoring. constexpr.
/// - `next_token_rows(activations, N)`: where the model puts the trunk's normed rows [N, C] before
///   run; not of a head that owns the last block.
/// - `run(pass, layout, trunk's layout, activations, stream, dstream, score)`: one pass over whole
///   sequences. stream [N, C] is the trunk's residual stream. score(first, rows [J N, C], gradients
///   of rows [J N, C], output matrix) scores depths first .. first + J - 1, each depth once in all,
///   and with gradients overwrites those. What the depths give the trunk goes into dhidden or into
///   dstream [N, C], and run returns whether it wrote dstream. pass.scope says what the depths
///   behind 0 may reach.
/// - `reads_embedding`: false if run does not touch the trunk's embedding, which then need not be
///   where the head is in a pipeline; a head without it is taken to read it.
/// - `drafter`: for decoding the sequences of `slots` slots, with make(arena, slots),
///   workspace(slots, threads), reset, rewind, keep and copy_slot; where the kind drafts, also with
///   ring, advance and draft, as independent.hpp has them. draft leaves the choice of tokens to
///   draft_tokens, which follows the rule of each sequence. With `takes_trees`, draft_tokens finds
///   the candidates of trees; with `grows_trees` as well, trees are drafted by draft_trees, as
///   sequential_drafter.hpp has it.
template <class Head, model_config Config, class Backend, class S>
concept prediction_head = detail::reads_normed_rows<Head, Config, Backend, S> &&
    detail::drafts_if_asked<Head, Config, Backend, S> &&
    requires(parameter_cursor<Backend, S>& cursor,
             const typename Head::layout& layout,
             const typename trunk<Config, Backend, S>::layout& trunk_layout,
             const typename trunk<Config, Backend, S>::scratch& scratch,
             const model_pass<Config, Backend, S>& pass,
             const typename Head::activations& a,
             typename Head::drafter& drafter,
             matrix_view<S, Backend> rows,
             arena& memory,
             arena_plan& plan,
             index_t n) {
  { Head::layout::make(cursor) } -> std::same_as<typename Head::layout>;
  layout.visit(detail::parameter_visitor{});
  { Head::activations::make(memory, n, scratch) } -> std::same_as<typename Head::activations>;
  { Head::activations::make(plan, n, scratch) } -> std::same_as<typename Head::activations>;
  { Head::workspace(n, n, n) } -> std::convertible_to<index_t>;
  {
    Head::run(pass, layout, trunk_layout, a, rows, rows, detail::score_stand_in{})
    } -> std::same_as<bool>;
  { Head::drafter::make(memory, n) } -> std::same_as<typename Head::drafter>;
  { Head::drafter::make(plan, n) } -> std::same_as<typename Head::drafter>;
  { Head::drafter::workspace(n, n) } -> std::convertible_to<index_t>;
  drafter.reset(n);
  drafter.rewind(n, n);
  { drafter.keep(n, n) } -> std::same_as<index_t>;
  drafter.copy_slot(pass.context, n, n);
};

}  // namespace mtp::inline MTP_ABI
