// Scoring: the probabilities that a model gives to the tokens of given sequences.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/decode/score_options.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::inline MTP_ABI {

/// Scores sequences with a model, those of a list one after the other, or, with several slots,
/// short ones that follow each other in the list in one pass of the trunk:
///
///     log_probabilities[i] = log p(t[i] | t[0] .. t[i - 1])    i = 1 .. T - 1
///     perplexity           = exp(-mean of these)
///
/// log p = log softmax of the logits of depth 0, in nats and f64. What a sequence is given does not
/// depend on what else is in the list, and has the bits that generate reports for the same tokens:
/// rows go through the caches of a decoder as they do there, in pieces of step_rows. (A training
/// pass would keep every activation, and its products of many rows may have other bits.) One
/// exception: where a backend's prefill_rows exceed its invariant_rows, as on CUDA, generate's bits
/// are these for prompts of at most invariant_rows + 1 tokens.
///
/// A sequence of more than P = max_position_embeddings tokens is scored in windows, if there is a
/// stride: window k holds tokens k stride .. k stride + P - 1, at positions from 0 on, and of these
/// those count that no window before it held. So every token but the first counts once, and in
/// later windows it has at least P - stride tokens in front of it. This is the evaluation that
/// Hugging Face's page "Perplexity of fixed-length models" describes.
///
/// Logits exist for logit_rows rows at a time. The sizes of all memory but that of the results
/// follow from configuration and number of best tokens, and it is taken when a scorer is made; a
/// call allocates nothing but what its results need beyond those of the last one.
template <model_config Config, class Backend, scalar S = float>
class scorer {
  static_assert(validate<Config>());

 public:
  using decoder_type = decoder<Config, Backend, S>;        ///< caches, and the passes of the model
  using model_type = inference_model<Config, Backend, S>;  ///< the model that scores
  using options_type = score_options<S, Backend>;          ///< how to score
  using logit_type = accumulate_t<S>;                      ///< what logits are kept in

  /// Rows that a pass of the trunk takes: as many as have the bits of single ones.
  static constexpr index_t step_rows = decoder_type::limits::invariant_step;
  /// Rows whose logits exist at a time: so many that they take 16 MiB, but at least one.
  static constexpr index_t logit_rows = std::clamp<index_t>(
      (index_t{1} << 24) / (Config.vocab_size * index_t{sizeof(logit_type)}), 1, step_rows);

  /// Bytes of the backend's memory that a scorer takes, with `best` best tokens for each position.
  static constexpr index_t memory_bytes(index_t best, index_t slots = 1) {
    return decoder_type::memory_bytes(slots) + own_bytes(best);
  }
  /// The most bytes of workspace that its operations need.
  static constexpr index_t workspace_bytes(index_t threads) {
    return (std::max)({decoder_type::workspace_bytes(threads),
                       logits_workspace<Config, Backend, S>(logit_rows, threads),
                       ops_of<Backend>::template best_tokens_workspace<logit_type>(
                           logit_rows, Config.vocab_size, threads)});
  }

  /// `best`: likeliest tokens that are given for each position. `slots`: sequences that share a
  /// pass at most, as long as they have step_rows rows in all; each slot has caches of its own.
  /// Context and model must outlive the scorer. Throws mtp::error unless `best` lies in [0, V], for
  /// a number of slots that decoder refuses, and where memory is used up.
  scorer(context<Backend>& context, const model_type& model, index_t best = 0, index_t slots = 1)
      : decoder_(context, model, slots), storage_(checked_bytes(best)), memory_([&] {
          arena whole(storage_.data(), storage_.count());
          return memory::make(whole, best);
        }()) {
    context.reserve(workspace_bytes(context.threads()));
    pieces_.reserve(static_cast<std::size_t>(slots));
  }

  /// Refuses temporaries, which would not outlive the scorer.
  template <class Context, class Model>
  requires(detail::temporary<Context, context<Backend>> || detail::temporary<Model, model_type>)
      scorer(Context&&, Model&&, index_t = 0, index_t = 1)
      : scorer(detail::refused<context<Backend>&>(), detail::refused<const model_type&>()) {
    static_assert(detail::never<Context>,
                  "scorer: the context and the model must outlive the scorer, so they need names");
  }

  /// Scores sequences of 2 tokens or more; where hidden states are asked for, of 1 or more. The
  /// results, in the order of the list, live until the next call; the sequences may not lie in
  /// those of the last one. Throws mtp::error for a sequence without tokens, with tokens outside
  /// the vocabulary or of a length that cannot be scored, for a stride outside of [0, P), or when
  /// it is called from its own callback; the results of the last call are there as before then.
  /// What a callback throws goes through, and leaves results of no use.
  const std::vector<scored_sequence>& score(std::span<const std::span<const token_t>> sequences,
                                            const options_type& options = {}) {
    const detail::turn working(at_work_, "score: called from a callback of the same scorer");
    detail::check_scoring(sequences, options, Config.vocab_size, P);
    results_.resize(sequences.size());
    for (std::size_t n = 0; n < sequences.size();) {
      const std::size_t together = fitting(sequences.subspan(n), options);
      if (together > 1) {
        score_together(n, sequences.subspan(n, together), options);
      } else {
        score_one(static_cast<index_t>(n), sequences[n], options, results_[n]);
      }
      n += (std::max<std::size_t>)(together, 1);
    }
    return results_;
  }

  /// The same for one sequence.
  const scored_sequence& score(std::span<const token_t> sequence,
                               const options_type& options = {}) {
    return score(std::span<const std::span<const token_t>>(&sequence, 1), options)[0];
  }

 private:
  using traits = backend_traits<Backend>;
  static constexpr index_t P = Config.max_position_embeddings;

  /// What lies in the backend's memory besides the decoder, R = logit_rows.
  struct memory {
    matrix_view<logit_type, Backend> logits;              // [R, V]
    vector_view<token_t, Backend> targets;                // [R]
    vector_view<token_t, Backend> likeliest;              // [R]
    vector_view<double, Backend> log_probabilities;       // [R]
    matrix_view<token_t, Backend> best_tokens;            // [R, n]
    matrix_view<double, Backend> best_log_probabilities;  // [R, n]

    template <class Arena>
    static constexpr memory make(Arena& arena, index_t n) {
      const auto rows = [&arena]<class T>(T) {
        return vector_view<T, Backend>(arena.template take<T>(logit_rows), dims<1>{logit_rows});
      };
      const auto matrix = [&arena]<class T>(T, index_t columns) {
        return matrix_view<T, Backend>(arena.template take<T>(logit_rows * columns),
                                       dims<2>{logit_rows, columns});
      };
      const auto logits = matrix(logit_type{}, Config.vocab_size);
      const auto targets = rows(token_t{});
      const auto likeliest = rows(token_t{});
      const auto log_probabilities = rows(double{});
      const auto best = matrix(token_t{}, n);
      return {logits, targets, likeliest, log_probabilities, best, matrix(double{}, n)};
    }
  };

  static constexpr index_t own_bytes(index_t best) {
    return bytes_taken([best](arena_plan& plan) { return memory::make(plan, best); });
  }
  static index_t checked_bytes(index_t best) {
    check(best >= 0 && best <= Config.vocab_size,
          "scorer: expected a number of best tokens in [0, ",
          Config.vocab_size,
          "], got ",
          best);
    return own_bytes(best);
  }

  /// Empties a result and makes room for T tokens.
  void begin(scored_sequence& result, index_t T) const {
    const index_t n = memory_.best_tokens.extent(1);
    const auto count = static_cast<std::size_t>(T), best = static_cast<std::size_t>(T * n);
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    result.log_probabilities.assign(count, nan);
    result.likeliest.assign(count, -1);
    result.best_tokens.assign(best, -1);
    result.best_log_probabilities.assign(best, nan);
    result.counted = T - 1;
  }

  void score_one(index_t number,
                 std::span<const token_t> tokens,
                 const options_type& options,
                 scored_sequence& result) {
    const auto T = static_cast<index_t>(tokens.size());
    begin(result, T);
    for (index_t first = 0, known = 0; known < T; first += options.stride) {
      const index_t end = (std::min)(first + P, T);
      score_window({number, first, known, end}, tokens, options, result);
      known = end;
    }
    add_up(result);
  }
  static void add_up(scored_sequence& result) {
    result.sum = detail::in_default_environment([&] {
      double sum = 0;
      for (std::size_t i = 1; i < result.log_probabilities.size(); ++i) {
        sum += result.log_probabilities[i];
      }
      return sum;
    });
  }

  /// Rows that a sequence of one window has: the last token's is wanted for its hidden states.
  static index_t rows_of(std::span<const token_t> tokens, const options_type& options) {
    return static_cast<index_t>(tokens.size()) - (options.on_hidden ? 0 : 1);
  }
  /// How many sequences of a list, from the first on, fit into one pass.
  std::size_t fitting(std::span<const std::span<const token_t>> sequences,
                      const options_type& options) const {
    const auto most = (std::min)(sequences.size(), static_cast<std::size_t>(decoder_.slots()));
    std::size_t count = 0;
    for (index_t rows = 0; count < most; ++count) {
      rows += rows_of(sequences[count], options);
      if (rows > (std::min)(step_rows, P)) {
        break;
      }
    }
    return count;
  }
  /// Scores sequences that fit into one pass; `first` is the number of the first one.
  void score_together(std::size_t first,
                      std::span<const std::span<const token_t>> sequences,
                      const options_type& options) {
    pieces_.clear();
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto count = static_cast<std::size_t>(rows_of(sequences[i], options));
      begin(results_[first + i], static_cast<index_t>(sequences[i].size()));
      decoder_.reset(static_cast<index_t>(i));
      pieces_.push_back(sequences[i].first(count));
    }
    const auto all = decoder_.hidden_of_pieces(pieces_);
    index_t row = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto count = static_cast<index_t>(pieces_[i].size());
      const auto normed = all.normed.slice(0, row, count);
      if (options.on_hidden) {
        options.on_hidden(
            {static_cast<index_t>(first + i), 0, normed, all.stream.slice(0, row, count)});
      }
      score_behind(normed, 0, sequences[i], results_[first + i]);
      add_up(results_[first + i]);
      row += count;
    }
  }

  /// What rows [M, C], of which the first is that of token `from`, give the tokens behind them.
  void score_behind(matrix_view<S, Backend> rows,
                    index_t from,
                    std::span<const token_t> tokens,
                    scored_sequence& result) {
    const index_t last = (std::min)(from + rows.extent(0), static_cast<index_t>(tokens.size()) - 1);
    for (index_t m = from; m < last; m += logit_rows) {
      const index_t M = (std::min)(logit_rows, last - m);
      score_rows(rows.slice(0, m - from, M),
                 tokens.subspan(static_cast<std::size_t>(m + 1), static_cast<std::size_t>(M)),
                 result,
                 static_cast<std::size_t>(m + 1));
    }
  }

  /// Tokens [first, end) of a sequence, of which those before `known` stood in a window before.
  struct window {
    index_t sequence, first, known, end;
  };

  void score_window(const window& w,
                    std::span<const token_t> tokens,
                    const options_type& options,
                    scored_sequence& result) {
    // The row of a token tells what follows it: the last one's is wanted for its hidden states.
    const index_t end = options.on_hidden ? w.end : w.end - 1;
    const index_t scored = (std::max<index_t>)(w.known, 1) - 1;  // the first row that is
    decoder_.reset();
    for (index_t at = w.first; at < end;) {
      const index_t count = (std::min)(step_rows, end - at);
      const auto piece =
          tokens.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count));
      if (at + count <= scored) {
        decoder_.prefill(piece, hidden_states::dropped);
      } else {
        const auto rows = decoder_.hidden_of(piece);
        if (const index_t seen = (std::max<index_t>)(w.known - at, 0);
            options.on_hidden && seen < count) {
          options.on_hidden({w.sequence,
                             at + seen,
                             rows.normed.slice(0, seen, count - seen),
                             rows.stream.slice(0, seen, count - seen)});
        }
        const index_t from = (std::max)(scored, at);
        score_behind(rows.normed.slice(0, from - at, at + count - from),
                     from,
                     tokens.first(static_cast<std::size_t>(w.end)),
                     result);
      }
      at += count;
    }
  }

  /// What rows [M, C] give the tokens behind them, `targets`, which begin at position `at`.
  void score_rows(matrix_view<S, Backend> rows,
                  std::span<const token_t> targets,
                  scored_sequence& result,
                  std::size_t at) {
    auto& context = decoder_.run_context();
    const model_type& model = decoder_.model();
    const index_t M = rows.extent(0), n = memory_.best_tokens.extent(1);
    const auto logits = memory_.logits.slice(0, 0, M);
    const auto log_probabilities = memory_.log_probabilities.slice(0, 0, M);
    const auto likeliest = memory_.likeliest.slice(0, 0, M);
    const auto of_targets = memory_.targets.slice(0, 0, M);
    traits::upload(context, of_targets.data(), targets.data(), targets.size_bytes());
    vocabulary<Config>::logits(
        context, logits, rows, model.values().matrix(model.trunk_layout().output));
    token_log_probabilities(context, log_probabilities, logits, of_targets);
    predict(context, likeliest, logits);
    download(result.log_probabilities, at, log_probabilities);
    download(result.likeliest, at, likeliest);
    if (n > 0) {
      const auto best = memory_.best_tokens.slice(0, 0, M);
      const auto of_best = memory_.best_log_probabilities.slice(0, 0, M);
      best_tokens(context, best, of_best, logits);
      download(result.best_tokens, at * static_cast<std::size_t>(n), best);
      download(result.best_log_probabilities, at * static_cast<std::size_t>(n), of_best);
    }
  }

  /// Elements of a contiguous view into a result, from `at` on.
  template <class Element, class Shape>
  void download(std::vector<Element>& to, std::size_t at, view<Element, Shape, Backend> from) {
    traits::download(decoder_.run_context(),
                     to.data() + at,
                     from.data(),
                     static_cast<std::size_t>(from.count()) * sizeof(Element));
  }

  decoder_type decoder_;
  buffer<std::byte, Backend> storage_;
  memory memory_;
  std::vector<scored_sequence> results_;
  std::vector<std::span<const token_t>>
      pieces_;  // of a pass over several; room for one in each slot
  bool at_work_ = false;
};

}  // namespace mtp::inline MTP_ABI
