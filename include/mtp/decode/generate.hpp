// Greedy generation: token by token, or several at a time by drafting and verifying, with the same
// result.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// How tokens are found.
enum class decode_mode {
  plain,        ///< one token per forward pass
  speculative,  ///< the head drafts D tokens, one forward pass verifies them; the result is the
                ///< same, bit for bit
};

/// Why generation ended.
enum class end_reason {
  length,    ///< max_new_tokens
  stop,      ///< a stop sequence; it is part of the result
  context,   ///< max_position_embeddings
  callback,  ///< on_token returned false
};

/// How to generate.
template <class S, class Backend>
struct generate_options {
  decode_mode mode = decode_mode::speculative;  ///< a head that drafts nothing decodes plainly
  index_t max_new_tokens = 128;                 ///< generation ends after as many
  std::vector<std::vector<token_t>> stop{};     ///< each ends generation
  std::function<bool(token_t)> on_token{};      ///< each token as it is confirmed; false ends
  /// Position of each token and the logits [V] that it came from, in the backend's memory.
  std::function<void(index_t, vector_view<const accumulate_t<S>, Backend>)> on_logits{};
};

/// What generation gave.
template <int Depth>
struct generation {
  std::vector<token_t> tokens;          ///< what was generated, prompt not included
  end_reason end = end_reason::length;  ///< why it ended
  index_t forward_passes = 0;           ///< of the trunk, prompt not included
  std::array<index_t, static_cast<std::size_t>(Depth)> drafted{};   ///< drafts at each position
  std::array<index_t, static_cast<std::size_t>(Depth)> accepted{};  ///< of these, accepted
  double prefill_seconds = 0;                                       ///< time for the prompt
  double decode_seconds = 0;                                        ///< time for what was generated

  /// Share of drafts at position k (0 is the first) that were accepted, among all cycles.
  double acceptance(std::size_t k) const {
    return drafted[k] > 0 ? static_cast<double>(accepted[k]) / static_cast<double>(drafted[k])
                          : 0.0;
  }
  /// Generated tokens per pass of the trunk: 1 for plain decoding, at most D + 1.
  double tokens_per_forward() const {
    return forward_passes > 0
               ? static_cast<double>(tokens.size()) / static_cast<double>(forward_passes)
               : 0.0;
  }
};

/// Generates with a model. Greedy: always the most likely token, ties to the lowest.
///
/// Speculative decoding (Stern et al. 2018, arXiv 1811.03115; Leviathan et al. 2023 for the greedy
/// case): the head drafts d_1 .. d_D behind the last confirmed token x; one pass of the trunk over
/// x, d_1, .., d_D gives the true next token after each; drafts are accepted as long as they agree,
/// the first disagreeing row still gives one true token, and caches roll back by length. Since
/// every row has the bits it would have alone, tokens and logits are those of plain decoding.
///
/// The sequence and the number of its confirmed tokens lie in the backend's memory, and a cycle
/// finds there all that it needs. A backend may therefore be given a cycle before the host has read
/// what the one before it wrote.
template <model_config Config, class Backend, scalar S = float>
class generator {
  static_assert(validate<Config>());

 public:
  using decoder_type = decoder<Config, Backend, S>;       ///< caches, and the passes of the model
  using model_type = language_model<Config, Backend, S>;  ///< the model that writes
  using options_type = generate_options<S, Backend>;      ///< how to generate
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
  /// outside the vocabulary, a negative max_new_tokens, or when it is called from its own callback.
  const generation_type& generate(std::span<const token_t> prompt, const options_type& options);

  /// The caches that generation works on, for inspection.
  decoder_type& sequence() { return decoder_; }

  /// For on_logits: copies a row of logits to the host.  to (=), logits [V]. Throws mtp::error
  /// unless sizes are equal.
  void download(std::span<logit_type> to, vector_view<const logit_type, Backend> logits) {
    check(static_cast<index_t>(to.size()) == logits.extent(0),
          "generator::download: expected room for ",
          logits.extent(0),
          " logits, got ",
          to.size());
    traits::download(decoder_.run_context(), to.data(), logits.data(), to.size_bytes());
  }

 private:
  using clock = std::chrono::steady_clock;
  using traits = backend_traits<Backend>;
  static constexpr index_t D = Config.prediction.depth;
  static constexpr index_t capacity = Config.max_position_embeddings + D + 1;

  /// What lies in the backend's memory: the sequence, and the tokens that the last cycle predicted.
  struct sequence_memory {
    sequence_view<Backend> sequence;
    vector_view<token_t, Backend> predicted;  // [D + 1], directly behind the sequence's state
  };

  template <class Arena>
  static constexpr sequence_memory lay_out(Arena& arena) {
    const vector_view<token_t, Backend> tokens(arena.template take<token_t>(capacity),
                                               dims<1>{capacity});
    const vector_view<index_t, Backend> state(arena.template take<index_t>(sequence_states),
                                              dims<1>{sequence_states});
    return {{tokens, state}, {arena.template take<token_t>(D + 1), dims<1>{D + 1}}};
  }
  static constexpr index_t sequence_bytes() {
    arena_plan plan;
    static_cast<void>(lay_out(plan));
    return plan.bytes();
  }

  /// What a cycle tells the host: the sequence's state, then the predicted tokens.
  static constexpr auto report_bytes = static_cast<std::size_t>(
      arena_bytes(sequence_states, sizeof(index_t)) + arena_bytes(D + 1, sizeof(token_t)));
  struct report_view {
    const index_t* state;
    const token_t* predicted;
  };
  static report_view read(const std::byte* bytes) {
    return {
        reinterpret_cast<const index_t*>(bytes),
        reinterpret_cast<const token_t*>(bytes + arena_bytes(sequence_states, sizeof(index_t)))};
  }

  void check_arguments(std::span<const token_t> prompt, const options_type& options) const {
    const auto length = static_cast<index_t>(prompt.size());
    check(length > 0, "generate: the prompt is empty");
    check(length <= Config.max_position_embeddings,
          "generate: a prompt of ",
          length,
          " tokens exceeds max_position_embeddings ",
          Config.max_position_embeddings);
    check(options.max_new_tokens >= 0,
          "generate: max_new_tokens must not be negative, got ",
          options.max_new_tokens);
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      check(prompt[i] >= 0 && prompt[i] < Config.vocab_size,
            "generate: token ",
            prompt[i],
            " at position ",
            i,
            " does not lie in [0, ",
            Config.vocab_size,
            ")");
    }
  }

  void send(std::span<const token_t> prompt) {
    auto& context = decoder_.run_context();
    const std::array<index_t, sequence_states> state{count_, 0};
    traits::upload(context, memory_->sequence.tokens.data(), prompt.data(), prompt.size_bytes());
    traits::upload(context, memory_->sequence.state.data(), state.data(), sizeof(state));
  }

  // All of the prompt but its last token, which the first cycle takes.
  void prefill(decode_mode mode) {
    for (index_t first = 0; first < count_ - 1;) {
      const index_t rows = (std::min)(decoder_type::max_step_rows, count_ - 1 - first);
      decoder_.forward(
          memory_->sequence, {first - count_, rows}, states_of(mode), row_output::none);
      first += rows;
      if constexpr (Config.prediction.drafts()) {
        if (mode == decode_mode::speculative) {
          decoder_.drafter().advance(
              decoder_.run_context(), decoder_.model(), memory_->sequence, count_, first);
        }
      }
    }
  }

  /// Submits cycles and reads what they wrote, as many cycles later as the backend likes.
  void run_cycles(const options_type& options, decode_mode mode) {
    const std::size_t ahead = options.on_logits ? 0 : slots - 1;
    std::array<bool, slots> drafting{};
    std::size_t submitted = 0, read = 0;
    for (bool going = true; going;) {
      if (count_ >= Config.max_position_embeddings) {
        result_.end = end_reason::context;
        return;
      }
      const bool drafts = mode == decode_mode::speculative && count_ >= 2 &&
                          count_ + D <= Config.max_position_embeddings;
      drafting[submitted % slots] = drafts;
      submit_cycle(drafts, mode, submitted % slots);
      ++submitted;
      if (submitted - read > ahead) {
        const bool drafted = drafting[read % slots];
        going = take(options, drafted, reports_.wait(read % slots));
        ++read;
      }
    }
  }

  static hidden_states states_of(decode_mode mode) {
    return mode == decode_mode::speculative ? hidden_states::kept : hidden_states::dropped;
  }

  void submit_cycle(bool drafts, decode_mode mode, std::size_t slot) {
    auto& context = decoder_.run_context();
    const std::size_t kind = drafts ? 2 : (mode == decode_mode::speculative ? 1 : 0);
    recordings_[kind].replay(context, [&] {
      if constexpr (Config.prediction.drafts()) {
        if (drafts) {
          decoder_.drafter().draft(context, decoder_.model(), memory_->sequence);
        }
      }
      const index_t rows = drafts ? D + 1 : 1;
      const auto logits = decoder_.forward(
          memory_->sequence, {-1, rows}, states_of(mode), row_output::logits);  // [rows, V]
      const auto predicted = memory_->predicted.slice(0, 0, rows);
      predict(context, predicted, logits);
      accept_drafts(context, memory_->sequence, predicted, Config.max_position_embeddings);
    });
    reports_.post(context, slot, memory_->sequence.state.data());
  }

  /// Reads what a cycle wrote. Returns whether generation goes on.
  bool take(const options_type& options, bool drafted, const std::byte* bytes) {
    const report_view report = read(bytes);
    const index_t accepted = report.state[sequence_accepted];
    if (accepted < 0) {
      return true;  // the cycle found the context full: the host knows it now, too
    }
    ++result_.forward_passes;
    for (index_t k = 0; drafted && k < D; ++k) {
      ++result_.drafted[static_cast<std::size_t>(k)];
      result_.accepted[static_cast<std::size_t>(k)] += k < accepted ? 1 : 0;
    }
    for (index_t row = 0; row <= accepted; ++row) {
      if (!emit(report.predicted[row], row, options)) {
        return false;
      }
    }
    return true;
  }

  bool emit(token_t token, index_t row, const options_type& options) {
    check(token >= 0, "generate: no logit at position ", count_, " is a number");
    if (options.on_logits) {
      options.on_logits(count_, decoder_.logits().select(0, row));
    }
    ++count_;
    result_.tokens.push_back(token);
    if (options.on_token && !options.on_token(token)) {
      result_.end = end_reason::callback;
      return false;
    }
    for (const auto& stop : options.stop) {
      if (!stop.empty() && stop.size() <= result_.tokens.size() &&
          std::equal(stop.begin(),
                     stop.end(),
                     result_.tokens.end() - static_cast<std::ptrdiff_t>(stop.size()))) {
        result_.end = end_reason::stop;
        return false;
      }
    }
    if (static_cast<index_t>(result_.tokens.size()) >= options.max_new_tokens) {
      result_.end = end_reason::length;
      return false;
    }
    if (count_ >= Config.max_position_embeddings) {
      result_.end = end_reason::context;
      return false;
    }
    return true;
  }

  static constexpr std::size_t slots = static_cast<std::size_t>(traits::cycles_ahead) + 1;

  decoder_type decoder_;
  buffer<std::byte, Backend> storage_;
  std::optional<sequence_memory> memory_;
  std::array<typename traits::recording, 3> recordings_;
  typename traits::mailbox reports_;
  index_t count_ = 0;  // confirmed tokens, as far as the host has read
  generation_type result_;
  bool at_work_ = false;
};

template <model_config Config, class Backend, scalar S>
generator<Config, Backend, S>::generator(context<Backend>& context, const model_type& model)
    : decoder_(context, model), storage_(sequence_bytes()), reports_(context, report_bytes, slots) {
  arena whole(storage_.data(), storage_.count());
  memory_.emplace(lay_out(whole));
  result_.tokens.reserve(static_cast<std::size_t>(Config.max_position_embeddings));
}

template <model_config Config, class Backend, scalar S>
auto generator<Config, Backend, S>::generate(std::span<const token_t> prompt,
                                             const options_type& options)
    -> const generation_type& {
  const detail::turn working(at_work_, "generate: called from a callback of the same generator");
  check_arguments(prompt, options);
  const decode_mode mode = Config.prediction.drafts() ? options.mode : decode_mode::plain;
  const auto start = clock::now();
  count_ = static_cast<index_t>(prompt.size());
  send(prompt);  // before the last result is cleared: the prompt may lie there
  result_.tokens.clear();
  result_.forward_passes = 0;
  result_.drafted.fill(0);
  result_.accepted.fill(0);
  result_.end = end_reason::length;
  decoder_.reset();
  prefill(mode);
  const auto prefilled = clock::now();
  if (options.max_new_tokens > 0) {
    run_cycles(options, mode);
  }
  decoder_.set_length((std::max<index_t>)(count_ - 1, 0));
  result_.prefill_seconds = std::chrono::duration<double>(prefilled - start).count();
  result_.decode_seconds = std::chrono::duration<double>(clock::now() - prefilled).count();
  return result_;
}

}  // namespace mtp::inline MTP_ABI
