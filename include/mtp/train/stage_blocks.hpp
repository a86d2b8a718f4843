// The blocks of a stage of a pipeline, forward and backward, with several passes under way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/stage_model.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The activations of several passes, which are between their forward and their backward pass; pass
/// k has slot k mod `slots`.
template <model_config Config, class Backend, scalar S>
class stage_blocks {
 public:
  using model_type = stage_model<Config, Backend, S>;
  using trunk_type = trunk<Config, Backend, S>;
  using pass_type = model_pass<Config, Backend, S>;
  using matrix = matrix_view<S, Backend>;
  using gradient_array = parameter_array<accumulate_t<S>, Backend>;
  using options_type = loss_options<Config.prediction.depth>;

  /// The blocks of a stage, without the head's side.
  static constexpr typename trunk_type::part part_of(const pipeline_stage& stage) {
    return {stage.first, stage.last, stage.embeds, false};
  }
  /// Bytes of activations; no slots: none.
  static constexpr index_t bytes_of(const pipeline_stage& stage, index_t N, index_t slots) {
    return slots == 0 ? 0 : bytes_taken([&](arena_plan& plan) {
      return memory::make(plan, N, slots, part_of(stage));
    });
  }

  stage_blocks(context<Backend>& context,
               const pipeline_stage& stage,
               index_t batch,
               index_t length,
               index_t slots)
      : batch_(batch),
        length_(length),
        slots_(slots),
        part_(part_of(stage)),
        storage_(bytes_of(stage, batch * length, slots)),
        tokens_(static_cast<std::size_t>(stage.embeds ? batch * length : 0)),
        balance_(static_cast<std::size_t>(has_experts && slots > 0 ? batch * length : 0)) {
    context.reserve(trunk_type::workspace(batch * length, length, context.threads()));
  }

  index_t bytes() const { return storage_.bytes(); }

  /// Where the stream in front of the blocks goes before the forward pass.  [N, C]
  matrix input(index_t k) { return slot(k).trunk.input(); }
  /// Where the gradient of the stream behind the blocks goes before the backward pass, and where
  /// that of the stream in front of them is after it.  [N, C]
  matrix gradient() { return lay_out().dstream; }
  /// Keeps the tokens of a batch for both passes of a stage with the embedding.
  void load(context<Backend>& context, index_t k, const batch_view& batch) {
    const std::size_t T = static_cast<std::size_t>(length_);
    const std::size_t row = T + 1 + static_cast<std::size_t>(Config.prediction.depth);
    for (std::size_t b = 0; b < static_cast<std::size_t>(batch_); ++b) {
      const auto from = batch.tokens.subspan(b * row, T);
      std::copy(from.begin(), from.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(b * T));
    }
    backend_traits<Backend>::upload(
        context, slot(k).tokens.data(), tokens_.data(), tokens_.size() * sizeof(token_t));
  }

  /// The stream behind the blocks, valid until the backward pass.  [N, C]
  matrix forward(context<Backend>& context,
                 const model_type& model,
                 index_t k,
                 const options_type& options) {
    const slot_memory own = slot(k);
    trunk_type::forward(
        pass(context, model, {nullptr, 0}, own, options), model.layout.body, own.trunk, no_rows());
    return own.trunk.output();
  }

  /// Adds to the gradients of the blocks' parameters. Returns the balance of their experts.
  double backward(context<Backend>& context,
                  const model_type& model,
                  gradient_array gradients,
                  index_t k,
                  const options_type& options) {
    const memory m = lay_out();
    const slot_memory own = slot(k);
    pass_type all = pass(context, model, gradients, own, options);
    if constexpr (has_experts) {
      fill(context, m.balance, 0.0);
      all.balance = m.balance;
    }
    trunk_type::backward(all, model.layout.body, own.trunk, m.scratch, m.dstream, true, no_rows());
    double sum = 0;
    if constexpr (has_experts) {
      backend_traits<Backend>::download(
          context, balance_.data(), m.balance.data(), balance_.size() * sizeof(double));
      sum = std::accumulate(balance_.begin(), balance_.end(), 0.0);
    }
    return sum;
  }

 private:
  static constexpr bool has_experts =
      Config.feed_forward.kind == feed_forward_kind::mixture_of_experts;

  /// What a pass keeps.
  struct slot_memory {
    vector_view<token_t, Backend> tokens;  // of a stage with the embedding  [N]
    typename trunk_type::activations trunk;

    template <class Arena>
    static constexpr slot_memory make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::part& part) {
      const index_t count = part.embeds ? N : 0;
      const vector_view<token_t, Backend> tokens(arena.template take<token_t>(count),
                                                 dims<1>{count});
      return {tokens, trunk_type::activations::make(arena, N, part)};
    }
  };
  struct memory {
    typename trunk_type::scratch scratch;
    matrix dstream;                        // [N, C]
    vector_view<double, Backend> balance;  // model_pass::balance, with experts  [N]
    repeated_memory slots;

    template <class Arena>
    static constexpr memory make(Arena& arena,
                                 index_t N,
                                 index_t slots,
                                 const typename trunk_type::part& part) {
      constexpr index_t C = Config.hidden_size;
      const auto scratch = trunk_type::scratch::make(arena, N);
      const matrix dstream(arena.template take<S>(N * C), {N, C});
      const index_t balanced = has_experts ? N : 0;
      const vector_view<double, Backend> balance(arena.template take<double>(balanced),
                                                 dims<1>{balanced});
      return {scratch, dstream, balance, repeated_memory::take(arena, slots, slot_layout(N, part))};
    }
  };
  static constexpr auto slot_layout(index_t N, const typename trunk_type::part& part) {
    return [N, part](auto& arena) { return slot_memory::make(arena, N, part); };
  }

  memory lay_out() {
    arena whole(storage_.data(), storage_.count());
    return memory::make(whole, batch_ * length_, slots_, part_);
  }
  slot_memory slot(index_t k) {
    return lay_out().slots.at(k % slots_, slot_layout(batch_ * length_, part_));
  }

  static matrix no_rows() { return {nullptr, {0, 0}}; }
  pass_type pass(context<Backend>& context,
                 const model_type& model,
                 gradient_array gradients,
                 const slot_memory& own,
                 const options_type& options) const {
    return {context,
            model.values(),
            gradients,
            model.rope(),
            batch_,
            length_,
            {own.tokens.data(), {1, own.tokens.extent(0)}},
            options.scope,
            options.aux_loss_alpha};
  }

  index_t batch_, length_, slots_;
  typename trunk_type::part part_;
  buffer<std::byte, Backend> storage_;
  std::vector<token_t> tokens_;  // of a pass  [N]
  std::vector<double> balance_;  // the same, with experts
};

}  // namespace mtp::inline MTP_ABI::detail
