// Generation: token by token, or several at a time by drafting and verifying, with the same result.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>

#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/cycle.hpp"
#include "mtp/decode/draft_lengths.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation_progress.hpp"

namespace mtp::inline MTP_ABI {

/// Generates with a model: always the most likely token, ties to the lowest, or tokens that are
/// drawn as options_type::sampling says.
///
/// Speculative decoding (Stern et al. 2018, arXiv 1811.03115; Leviathan et al. 2023): the head
/// drafts d_1 .. d_D behind the last confirmed token x; one pass of the trunk over x, d_1, .., d_D
/// gives the true next token after each; drafts are accepted as long as they agree, the first
/// disagreeing row still gives one true token, and caches roll back by length. Since every row has
/// the bits it would have alone, tokens and logits are those of plain decoding. So are drawn
/// tokens: the noise that draws one is a function of seed and position, and the draft is compared
/// with what is drawn (Daliri, Musco and Suresh 2024, arXiv 2408.07978, for heads that use the same
/// noise). With draft_verification::rejection and block the text is another one, of the same
/// distribution.
template <model_config Config, class Backend, scalar S = float>
class generator {
  static_assert(validate<Config>());

 public:
  using decoder_type = decoder<Config, Backend, S>;        ///< caches, and the passes of the model
  using model_type = inference_model<Config, Backend, S>;  ///< the model that writes
  using options_type = generate_options<S, Backend>;       ///< how to generate
  using generation_type = generation<Config.prediction.depth>;  ///< what generation gives
  using logit_type = accumulate_t<S>;                           ///< what logits are kept in

  /// Context and model must outlive the generator. Throws mtp::error where memory is used up.
  generator(context<Backend>& context, const model_type& model);

  /// Refuses temporaries, which would not outlive the generator.
  template <class Context, class Model>
  requires(detail::temporary<Context, context<Backend>> || detail::temporary<Model, model_type>)
      generator(Context&&, Model&&)
      : generator(detail::refused<context<Backend>&>(), detail::refused<const model_type&>()) {
    static_assert(detail::never<Context>,
                  "generator: the context and the model must outlive the generator, so they need "
                  "names");
  }

  /// Refuses other models.
  template <class Call = void>
  generator(detail::any, detail::any)
      : generator(detail::refused<context<Backend>&>(), detail::refused<const model_type&>()) {
    static_assert(detail::never<Call>,
                  "generator: expected a context and a language_model of the generator's own "
                  "configuration, backend and element type");
  }

  /// Continues `prompt`, which may be the last result's tokens. The result lives until the next
  /// call. Throws mtp::error for an empty prompt, one longer than max_position_embeddings, tokens
  /// outside the vocabulary, a negative max_new_tokens, a min_new_tokens beyond it, options of
  /// sampling that mean nothing, or when it is called from its own callback.
  const generation_type& generate(std::span<const token_t> prompt, const options_type& options);

  /// Lets the head draft from some tokens alone, or, if there are none, from all of them again.
  /// What is written stays the same; a draft is cheaper where the vocabulary is most of a model,
  /// see draft_vocabulary and frequent_tokens. Copies rows of the output matrix, so it is to be
  /// called again when parameters have changed. Throws mtp::error for tokens outside the vocabulary
  /// and for tokens given twice; nothing has changed then.
  void set_draft_vocabulary(std::span<const token_t> tokens) {
    check(!at_work_, "generator::set_draft_vocabulary: called from a callback of the generator");
    cycle_.set_draft_vocabulary(tokens);
  }

  /// The caches that generation works on, for inspection.
  decoder_type& sequence() { return cycle_.sequences(); }

  /// For on_logits: copies a row of logits to the host.  to (=), logits [V]. Throws mtp::error
  /// unless sizes are equal.
  void download(std::span<logit_type> to, vector_view<const logit_type, Backend> logits) {
    check(static_cast<index_t>(to.size()) == logits.extent(0),
          "generator::download: expected room for ",
          logits.extent(0),
          " logits, got ",
          to.size());
    backend_traits<Backend>::download(
        cycle_.sequences().run_context(), to.data(), logits.data(), to.size_bytes());
  }

 private:
  using clock = std::chrono::steady_clock;

  /// Submits cycles and reads what they wrote, as many cycles later as the backend likes.
  void run_cycles() {
    constexpr auto cycles_ahead = static_cast<std::size_t>(backend_traits<Backend>::cycles_ahead);
    const std::size_t ahead = progress_.reads_logits() ? 0 : cycles_ahead;
    while (progress_.going()) {
      slot_step step = progress_.next_step();
      if (!progress_.going()) {
        return;
      }
      lengths_.prepare(
          cycle_, {&step, 1}, [&](index_t) -> const auto& { return progress_; });
      cycle_.submit({&step, 1});
      lengths_.observe(cycle_, {&step, 1});
      progress_.add_seconds(cycle_.seconds(), 1);
      if (cycle_.in_flight() > ahead) {
        cycle_.read([&](const slot_step& read, const step_outcome& outcome) {
          const index_t count = progress_.count();
          progress_.take(cycle_, read, outcome);
          lengths_.observe(cycle_, read, outcome.accepted, count, progress_);
        });
      }
    }
  }

  decoding_cycle<Config, Backend, S> cycle_;
  generation_progress<Config, Backend, S> progress_;
  draft_lengths<Config, Backend, S> lengths_{1};
  bool at_work_ = false;
};

template <model_config Config, class Backend, scalar S>
generator<Config, Backend, S>::generator(context<Backend>& context, const model_type& model)
    : cycle_(context, model, 1) {}

template <model_config Config, class Backend, scalar S>
auto generator<Config, Backend, S>::generate(std::span<const token_t> prompt,
                                             const options_type& options)
    -> const generation_type& {
  const detail::turn working(at_work_, "generate: called from a callback of the same generator");
  detail::check_generation(prompt,
                           options,
                           Config.vocab_size,
                           Config.max_position_embeddings,
                           Config.prediction.depth,
                           refusals_of_trees<Config, Backend, S>);
  const auto start = clock::now();
  cycle_.drop();
  progress_.start(
      cycle_, 0, prompt, options, options.reuse_prefix ? progress_.in_common(prompt) : 0);
  while (progress_.prefill(cycle_)) {
  }
  lengths_.begin(0, progress_.count());
  const auto prefilled = clock::now();
  run_cycles();
  cycle_.sequences().set_length(progress_.cached_positions());
  generation_type& result = progress_.result();
  result.prefill_seconds = std::chrono::duration<double>(prefilled - start).count();
  result.decode_seconds = std::chrono::duration<double>(clock::now() - prefilled).count();
  return result;
}

}  // namespace mtp::inline MTP_ABI
