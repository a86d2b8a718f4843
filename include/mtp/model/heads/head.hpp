// Which head a configuration has, and what every head has to offer.
#pragma once

#include <string>

#include "mtp/model/heads/independent.hpp"
#include "mtp/model/heads/none.hpp"
#include "mtp/model/heads/parallel.hpp"
#include "mtp/model/heads/recurrent.hpp"
#include "mtp/model/heads/sequential.hpp"
#include "mtp/model/heads/shared_logit.hpp"

namespace mtp::inline MTP_ABI {

/// The head of a configuration.
template <model_config Config, class Backend, scalar S>
using head_of = typename head_traits<Config.head>::template head<Config, Backend, S>;

namespace detail {
/// Stands for a visitor of parameters.
struct parameter_visitor {
  void operator()(const std::string& name, const parameter& place) const;
};
}  // namespace detail

/// What a head offers. none.hpp is the smallest one, independent.hpp the next to read.
///
/// - `layout`: where its parameters lie. make(cursor) places them, visit(visitor) names them,
///   in the same order.
/// - `activations`: memory for training, by make(arena, N, scratch of a block's backward pass).
///   Unless the head owns the last block, `dhidden` is among it, whose first N rows [N, C] are the
///   gradient of next_token_rows.
/// - `next_token_rows(activations, N)`: where the model puts the trunk's normed rows [N, C] before
///   run; not of a head that owns the last block.
/// - `run(pass, layout, trunk's layout, activations, stream, dstream, score)`: one pass over whole
///   sequences. stream [N, C] is the trunk's residual stream. score(first, rows [J N, C], gradients
///   of rows [J N, C], output matrix) scores depths first .. first + J - 1, each depth once in all,
///   and with gradients overwrites those. What the depths give the trunk goes into dhidden or into
///   dstream [N, C], and run returns whether it wrote dstream. pass.scope says what the depths
///   behind 0 may reach.
/// - `drafter`: for decoding, with make(arena, max_rows), reset and rewind; where the kind drafts,
///   also with ring, advance and draft, as independent.hpp has them.
///
/// The workspace that is reserved serves rows of the trunk's blocks, a C x C product, and scoring
/// all depths at once. A head whose operations want more calls context::reserve before training.
template <class Head>
concept prediction_head = requires(const typename Head::layout& layout,
                                   typename Head::drafter& drafter,
                                   index_t n) {
  typename Head::pass_type;
  typename Head::activations;
  layout.visit(detail::parameter_visitor{});
  drafter.reset();
  drafter.rewind(n);
};

}  // namespace mtp::inline MTP_ABI
