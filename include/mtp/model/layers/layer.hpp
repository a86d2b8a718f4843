// Which layers a configuration's blocks have, and what every layer has to offer.
#pragma once

#include <concepts>
#include <string>

#include "mtp/core/arena.hpp"
#include "mtp/model/layers/grouped_query_attention.hpp"
#include "mtp/model/layers/mixture_of_experts.hpp"
#include "mtp/model/layers/multi_head_latent_attention.hpp"
#include "mtp/model/layers/post_norm.hpp"
#include "mtp/model/layers/swiglu.hpp"
#include "mtp/model/layers/tensor_parallel_layer.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/row_pass.hpp"

namespace mtp::inline MTP_ABI {

/// The attention layer of a configuration.
template <model_config Config, class Backend, scalar S>
using attention_of =
    with_post_norm<Config.attention.post_norm,
                   Config,
                   Backend,
                   S,
                   with_ranks<attention_traits<Config.attention.kind>, Config, Backend, S>,
                   post_norm_name::attention>;

/// SwiGLU, whatever the kind: the feed-forward layer of first_k_dense_replace's blocks.
template <model_config Config, class Backend, scalar S>
using dense_feed_forward_of =
    with_post_norm<Config.feed_forward.post_norm,
                   Config,
                   Backend,
                   S,
                   with_ranks<feed_forward_traits<feed_forward_kind::swiglu>, Config, Backend, S>,
                   post_norm_name::feed_forward>;

/// The feed-forward layer of a configuration.
template <model_config Config, class Backend, scalar S>
using feed_forward_of =
    with_post_norm<Config.feed_forward.post_norm,
                   Config,
                   Backend,
                   S,
                   with_ranks<feed_forward_traits<Config.feed_forward.kind>, Config, Backend, S>,
                   post_norm_name::feed_forward>;

namespace detail {
/// Stands for a visitor of parameters.
struct parameter_visitor {
  void operator()(const std::string& name, const parameter& place) const;
};

/// What every layer offers; see attention_layer.
template <class Layer, model_config Config, class Backend, class S>
concept block_layer = requires(parameter_cursor<Backend, S>& cursor,
                               const typename Layer::layout& at,
                               arena& memory,
                               arena_plan& plan,
                               const model_pass<Config, Backend, S>& pass,
                               const typename Layer::activations& a,
                               const typename Layer::scratch& d,
                               matrix_view<S, Backend> rows,
                               index_t n) {
  { Layer::layout::make(cursor) } -> std::same_as<typename Layer::layout>;
  at.visit(std::string(), parameter_visitor{});
  { Layer::activations::make(memory, n) } -> std::same_as<typename Layer::activations>;
  { Layer::activations::make(plan, n) } -> std::same_as<typename Layer::activations>;
  { Layer::scratch::make(memory, n) } -> std::same_as<typename Layer::scratch>;
  { Layer::scratch::make(plan, n) } -> std::same_as<typename Layer::scratch>;
  { Layer::workspace(n, n, n) } -> std::convertible_to<index_t>;
  { Layer::decode_workspace(n, n) } -> std::convertible_to<index_t>;
  Layer::forward(pass, at, a, rows, rows, rows);
  Layer::backward(pass, at, a, d, rows, rows, rows);
};
}  // namespace detail

/// What an attention layer offers. swiglu.hpp is the smallest layer, grouped_query_attention.hpp
/// the next to read.
///
/// - `layout`: where its parameters lie. make(cursor) places them, visit(prefix, visitor) names
///   them, in the same order.
/// - `activations`, `scratch`: what a forward pass over N rows keeps for its backward pass, and
///   what that works in, by make(arena, N). For fewer rows, less memory.
/// - `workspace(N, length, threads)`, `decode_workspace(M, threads)`: bytes that its operations
///   take from the context in a training pass, and in a pass over M rows. constexpr.
/// - `forward(pass, layout, activations, y, x, residual)`: y = residual + layer(x), all [N, C]; x
///   is the normed stream, y may be residual.
/// - `backward(pass, layout, activations, scratch, dx, dy, x)`: dx (=) of layer(x); gradients of
///   parameters accumulate (+=). dy stays as it is.
/// - `rotary_width`: elements of a row of pass.rope, the cosines, then the sines; 0: the layer
///   reads none.
/// - `cache`: what it keeps of sequences from pass to pass, each in a slot of its own, by
///   make_cache(arena, slots). Its memory is not initialized.
/// - `copy_cache(context, cache, to, from)`: what slot `to` holds (=) what slot `from` does.
/// - `rewindable`: how many positions may be taken back, counted from the longest length that the
///   sequence has reached: rows that are decoded again at a position find everything in front of
///   it as it was, and nothing of what stood behind. At least row_limits::taken_back. A layer that
///   keeps every position says max_position_embeddings.
/// - `keep_path(context, cache, sequence, rows)`, left out where the layer takes no trees of drafts
///   (row_run::parents): what ops/tree.hpp says of keep_path.
/// - `decodes_as_it_trains`: whether decode has the bits of forward for a prompt that is one pass;
///   left out where it has. One that has another form of the same sums says false.
/// - `decode(pass, layout, activations, cache, y, x, residual)`: forward for M rows at
///   pass.positions: for each of pass.runs, consecutive ones of the sequence in its slot, behind
///   what the cache holds of it. A row at position 0 begins a sequence, whatever the slot holds.
///
/// A promise that the compiler does not see, and the tests' layer kit does: a row gets the same
/// bits in any company, whole or in pieces, and with any number of threads.
template <class Layer, model_config Config, class Backend, class S>
concept attention_layer = detail::block_layer<Layer, Config, Backend, S> &&
    requires(arena& memory,
             arena_plan& plan,
             const row_pass<Config, Backend, S>& pass,
             const typename Layer::layout& at,
             const typename Layer::activations& a,
             const typename Layer::cache& cache,
             matrix_view<S, Backend> rows) {
  { Layer::rotary_width } -> std::convertible_to<index_t>;
  { Layer::rewindable } -> std::convertible_to<index_t>;
  { Layer::make_cache(memory, memory.used()) } -> std::same_as<typename Layer::cache>;
  { Layer::make_cache(plan, plan.bytes()) } -> std::same_as<typename Layer::cache>;
  Layer::copy_cache(pass.context, cache, plan.bytes(), plan.bytes());
  Layer::decode(pass, at, a, cache, rows, rows, rows);
};

/// What a feed-forward layer offers: of attention_layer's list all that does not speak of a
/// sequence. forward is given a row_pass as well.
template <class Layer, model_config Config, class Backend, class S>
concept feed_forward_layer = detail::block_layer<Layer, Config, Backend, S> &&
    requires(const row_pass<Config, Backend, S>& pass,
             const typename Layer::layout& at,
             const typename Layer::activations& a,
             matrix_view<S, Backend> rows) {
  Layer::forward(pass, at, a, rows, rows, rows);
};

}  // namespace mtp::inline MTP_ABI
