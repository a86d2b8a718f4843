// Generation: token by token, or several at a time by drafting and verifying, with the same result.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
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
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/sampling_options.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/sampling_rule.hpp"
#include "mtp/ops/sequence.hpp"

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
/// noise).
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
  /// outside the vocabulary, a negative max_new_tokens, a min_new_tokens beyond it, options of
  /// sampling that mean nothing, or when it is called from its own callback.
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

  /// What lies in the backend's memory: the sequence, how its tokens are chosen, and directly
  /// behind its state what the last cycle predicted.
  struct sequence_memory {
    sequence_view<Backend> sequence;                 // without a rule
    vector_view<token_t, Backend> predicted;         // [D + 1]
    vector_view<double, Backend> log_probabilities;  // [D + 1]
    sampling_rule<Backend> rule;

    /// The sequence for whoever chooses by the rule.
    sequence_view<Backend> ruled() const { return {sequence.tokens, sequence.state, rule}; }
  };

  template <class Arena>
  static constexpr sequence_memory lay_out(Arena& arena) {
    const auto take = [&arena]<class T>(T, index_t count) {
      return vector_view<T, Backend>(arena.template take<T>(count), dims<1>{count});
    };
    const auto tokens = take(token_t{}, capacity);
    const auto state = take(index_t{}, sequence_states);
    const auto predicted = take(token_t{}, D + 1);
    const auto log_probabilities = take(double{}, D + 1);
    const auto integers = take(index_t{}, sampling_integers);
    const auto reals = take(double{}, sampling_reals);
    const auto stop_tokens = take(token_t{}, Config.vocab_size);
    return {{tokens, state},
            predicted,
            log_probabilities,
            {integers, reals, stop_tokens, take(float{}, Config.vocab_size)}};
  }
  static constexpr index_t sequence_bytes() {
    arena_plan plan;
    static_cast<void>(lay_out(plan));
    return plan.bytes();
  }

  /// What a cycle tells the host: the sequence's state, then the predicted tokens and their
  /// logarithms of probabilities.
  static constexpr index_t predicted_at = arena_bytes(sequence_states, sizeof(index_t));
  static constexpr index_t log_probabilities_at =
      predicted_at + arena_bytes(D + 1, sizeof(token_t));
  static constexpr auto report_bytes =
      static_cast<std::size_t>(log_probabilities_at + arena_bytes(D + 1, sizeof(double)));
  struct report_view {
    const index_t* state;
    const token_t* predicted;
    const double* log_probabilities;
  };
  static report_view read(const std::byte* bytes) {
    return {reinterpret_cast<const index_t*>(bytes),
            reinterpret_cast<const token_t*>(bytes + predicted_at),
            reinterpret_cast<const double*>(bytes + log_probabilities_at)};
  }

  template <class Element>
  void upload(const vector_view<Element, Backend>& to, std::span<const Element> from) {
    traits::upload(decoder_.run_context(), to.data(), from.data(), from.size_bytes());
  }

  void send(std::span<const token_t> prompt) {
    const std::array<index_t, sequence_states> state{count_, 0};
    upload<token_t>(memory_->sequence.tokens, prompt);
    upload<index_t>(memory_->sequence.state, state);
  }

  /// What decides about tokens. Each is recorded by itself, and none when the numbers of a rule
  /// change.
  enum class choice { most_likely, by_rule, by_rule_with_likely_drafts, choices };

  /// Sends the rule of the options where there is need of one.
  choice send_rule(const options_type& options) {
    const sampling_options& sampling = options.sampling;
    if (!detail::needs_rule(sampling, options.min_new_tokens > 0 && !options.stop_tokens.empty())) {
      return choice::most_likely;
    }
    host_rule_.set(sampling, options.stop_tokens, count_, options.min_new_tokens);
    upload<index_t>(memory_->rule.integers, host_rule_.integers);
    upload<double>(memory_->rule.reals, host_rule_.reals);
    upload<token_t>(memory_->rule.stop_tokens, host_rule_.stop_tokens);
    if (!sampling.logit_bias.empty()) {
      upload<float>(memory_->rule.bias, host_rule_.bias);
    }
    return sampling.drafts == draft_choice::shared_noise ? choice::by_rule
                                                         : choice::by_rule_with_likely_drafts;
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
  void run_cycles(const options_type& options, decode_mode mode, choice decides) {
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
      submit_cycle({drafts, mode, decides, options.log_probabilities}, submitted % slots);
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

  /// What a cycle consists of.
  struct cycle {
    bool drafts;
    decode_mode mode;
    choice decides;
    bool log_probabilities;

    static constexpr std::size_t kinds = 6 * static_cast<std::size_t>(choice::choices);
    std::size_t number() const {
      const std::size_t rows = drafts ? 2 : (mode == decode_mode::speculative ? 1 : 0);
      return (static_cast<std::size_t>(decides) * 3 + rows) * 2 + (log_probabilities ? 1 : 0);
    }
  };

  void submit_cycle(const cycle& kind, std::size_t slot) {
    auto& context = decoder_.run_context();
    const sequence_view<Backend>& sequence = memory_->sequence;
    recordings_[kind.number()].replay(context, [&] {
      if constexpr (Config.prediction.drafts()) {
        if (kind.drafts) {
          decoder_.drafter().draft(context,
                                   decoder_.model(),
                                   kind.decides == choice::by_rule ? memory_->ruled() : sequence);
        }
      }
      const index_t rows = kind.drafts ? D + 1 : 1;
      const auto logits = decoder_.forward(
          sequence, {-1, rows}, states_of(kind.mode), row_output::logits);  // [rows, V]
      const auto predicted = memory_->predicted.slice(0, 0, rows);
      if (kind.decides == choice::most_likely) {
        predict(context, predicted, logits);
      } else {
        choose_tokens(context, predicted, logits, memory_->ruled(), 0);
      }
      if (kind.log_probabilities) {
        token_log_probabilities(
            context, memory_->log_probabilities.slice(0, 0, rows), logits, predicted);
      }
      accept_drafts(context, sequence, predicted, Config.max_position_embeddings);
    });
    reports_.post(context, slot, sequence.state.data());
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
      written_token written{report.predicted[row], count_, row < accepted};
      if (options.log_probabilities && written.token >= 0) {
        written.log_probability = report.log_probabilities[row];
        result_.log_probabilities.push_back(written.log_probability);
      }
      if (!emit(written, row, options)) {
        return false;
      }
    }
    return true;
  }

  bool emit(const written_token& written, index_t row, const options_type& options) {
    check(written.token >= 0,
          "generate: no logit at position ",
          count_,
          " is a number, among those of tokens that may stand there");
    if (options.on_logits) {
      options.on_logits(count_, decoder_.logits().select(0, row));
    }
    ++count_;
    result_.tokens.push_back(written.token);
    if (options.on_token && !options.on_token(written)) {
      result_.end = end_reason::callback;
      return false;
    }
    if (is_stopped(options)) {
      result_.end = end_reason::stop;
      return false;
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

  /// Whether what was generated ends in a stop token or a stop sequence.
  bool is_stopped(const options_type& options) const {
    const auto& tokens = result_.tokens;
    if (static_cast<index_t>(tokens.size()) < options.min_new_tokens) {
      return false;
    }
    const auto ends_in = [&](const std::vector<token_t>& stop) {
      return !stop.empty() && stop.size() <= tokens.size() &&
             std::equal(stop.rbegin(), stop.rend(), tokens.rbegin());
    };
    return std::any_of(options.stop.begin(), options.stop.end(), ends_in) ||
           std::find(options.stop_tokens.begin(), options.stop_tokens.end(), tokens.back()) !=
               options.stop_tokens.end();
  }

  static constexpr std::size_t slots = static_cast<std::size_t>(traits::cycles_ahead) + 1;

  decoder_type decoder_;
  buffer<std::byte, Backend> storage_;
  std::optional<sequence_memory> memory_;
  detail::host_sampling_rule host_rule_{Config.vocab_size};
  std::array<typename traits::recording, cycle::kinds> recordings_;
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
  result_.log_probabilities.reserve(static_cast<std::size_t>(Config.max_position_embeddings));
}

template <model_config Config, class Backend, scalar S>
auto generator<Config, Backend, S>::generate(std::span<const token_t> prompt,
                                             const options_type& options)
    -> const generation_type& {
  const detail::turn working(at_work_, "generate: called from a callback of the same generator");
  detail::check_generation(prompt, options, Config.vocab_size, Config.max_position_embeddings);
  const decode_mode mode = Config.prediction.drafts() ? options.mode : decode_mode::plain;
  const auto start = clock::now();
  count_ = static_cast<index_t>(prompt.size());
  send(prompt);  // before the last result is cleared: the prompt may lie there
  const choice decides = send_rule(options);
  result_.tokens.clear();
  result_.log_probabilities.clear();
  result_.forward_passes = 0;
  result_.drafted.fill(0);
  result_.accepted.fill(0);
  result_.end = end_reason::length;
  decoder_.reset();
  prefill(mode);
  const auto prefilled = clock::now();
  if (options.max_new_tokens > 0) {
    run_cycles(options, mode, decides);
  }
  decoder_.set_length((std::max<index_t>)(count_ - 1, 0));
  result_.prefill_seconds = std::chrono::duration<double>(prefilled - start).count();
  result_.decode_seconds = std::chrono::duration<double>(clock::now() - prefilled).count();
  return result_;
}

}  // namespace mtp::inline MTP_ABI
