// Trains a head on hidden states, and keeps its best parameters.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/loss/heads_loss.hpp"
#include "mtp/model/heads_model.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/train/adamw.hpp"
#include "mtp/train/expert_balance.hpp"
#include "windows.hpp"

namespace example {

struct head_training_options {
  mtp::index_t batch = 4;
  double minutes = 0;      // 0: no limit
  mtp::index_t steps = 0;  // 0: no limit
  double rate = 1.5e-3;
  double weight_decay = 0.01;
  double beta = 0.8;
  bool distils = true;
  double kl = -1;  // -1: exp(-3 overlap), as the LK losses have it
  mtp::index_t every = 50;
  mtp::index_t patience = 6;
  std::uint64_t seed = 1;
};

/// What a validation found.
template <int Depth>
struct head_progress {
  mtp::index_t step = 0;
  double seconds = 0;                 // since training began
  double loss = 0;                    // of the steps since the last validation
  mtp::heads_report<Depth> held_out;  // against what the trunk chooses
  bool best = false;
};

/// The head of `model`, a model of heads_config, is trained on rows of `states`, [count T, C].
template <mtp::model_config Config>
class head_training {
 public:
  static constexpr int depth = Config.prediction.depth;
  using model_type = mtp::language_model<Config, mtp::cpu, float>;
  using vocabulary_type = mtp::draft_vocabulary<Config, mtp::cpu, float>;
  using loss_type = mtp::heads_loss<Config, mtp::cpu, float>;
  using progress_type = head_progress<depth>;

  /// The vocabulary may be null: all tokens. Everything that is passed must outlive the object.
  head_training(mtp::context<mtp::cpu>& context,
                model_type& model,
                const windows& text,
                std::span<const mtp::bf16> states,
                vocabulary_type* vocabulary,
                const head_training_options& options)
      : context_(context),
        model_(model),
        text_(text),
        states_(states),
        options_(options),
        loss_(context, options.batch, text.length, vocabulary, options.distils),
        optimizer_(context, model, {.weight_decay = options.weight_decay}),
        balance_(model),
        gradients_(model.values().count()),
        objective_(mtp::heads_options<depth>::falling_by(options.beta)) {
    mtp::check(options.minutes > 0 || options.steps > 0,
               "retrofit: expected a limit of minutes or steps");
    objective_.distils = options.distils;
    if (options.kl >= 0) objective_.shares.fill(options.kl);
    context.reserve(mtp::ops_of<mtp::cpu>::sum_of_squares_workspace(gradients_.count()));
    choose();
  }

  /// Trains until a limit or until patience ends; the model then has the best head. told(progress)
  /// is called behind each validation, of which the first is in front of all steps.
  progress_type run(const std::function<void(const progress_type&)>& told) {
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    progress_type best;
    std::vector<float> kept;
    mtp::index_t without_progress = 0;
    double lost = 0;
    for (mtp::index_t step = 0;; ++step) {
      const double done = share_done(step, seconds());
      if (step % options_.every == 0 || done >= 1) {
        const mtp::index_t since =
            step % options_.every == 0 ? options_.every : step % options_.every;
        progress_type now;
        now.step = step;
        now.seconds = seconds();
        now.loss = step > 0 ? lost / static_cast<double>(since) : 0;
        now.held_out = validate();
        now.best = step == 0 || now.held_out.tokens_per_pass() > best.held_out.tokens_per_pass();
        without_progress = now.best ? 0 : without_progress + 1;
        lost = 0;
        if (now.best) {
          best = now;
          kept = head();
        }
        told(now);
        if (done >= 1 || without_progress >= options_.patience) break;
      }
      lost += this->step(step, done);
    }
    std::copy(kept.begin(), kept.end(), model_.values().data() + model_.layout.head_begin);
    return best;
  }

  /// Losses of the held-out sequences; drafts are compared with what the trunk chooses.
  mtp::heads_report<depth> validate() {
    mtp::heads_report<depth> all;
    mtp::index_t at = 0;
    each_held_out_batch([&](std::span<const mtp::index_t> sequences) {
      const auto batch = load(sequences);
      const mtp::index_t rows = batch.batch * batch.length;
      const auto chosen = std::span<const mtp::token_t>(choices_).subspan(
          static_cast<std::size_t>(at), static_cast<std::size_t>(rows));
      all.add(loss_.without_gradients(context_, model_, {batch, chosen}, objective_), objective_);
      at += rows;
    });
    return all;
  }

 private:
  static constexpr mtp::index_t warmup = 30;

  /// The share of the run that is over.
  double share_done(mtp::index_t step, double seconds) const {
    const double of_steps =
        options_.steps > 0 ? static_cast<double>(step) / static_cast<double>(options_.steps) : 0;
    const double of_time = options_.minutes > 0 ? seconds / (60 * options_.minutes) : 0;
    return (std::max)(of_steps, of_time);
  }
  /// A warm-up, then half a cosine down to a twentieth.
  double rate_at(mtp::index_t step, double done) const {
    const double warm = (std::min)(1.0, static_cast<double>(step + 1) / warmup);
    return options_.rate * warm * (0.525 + 0.475 * std::cos(std::numbers::pi * done));
  }

  /// Returns the loss.
  double step(mtp::index_t number, double done) {
    const auto n = static_cast<std::size_t>(text_.training());
    std::vector<mtp::index_t> sequences;
    for (mtp::index_t b = 0; b < options_.batch; ++b) {
      const auto sample = static_cast<std::size_t>(number * options_.batch + b);
      if (order_.empty() || sample / n != epoch_) {
        epoch_ = sample / n;
        order_ = shuffled(n, options_.seed, 1 + epoch_);
      }
      sequences.push_back(static_cast<mtp::index_t>(order_[sample % n]));
    }
    const auto batch = load(sequences);
    const mtp::vector_view<float, mtp::cpu> trained(
        gradients_.data() + model_.layout.head_begin,
        mtp::dims<1>{gradients_.count() - model_.layout.head_begin});
    mtp::fill(context_, trained, 0.0f);
    const mtp::parameter_array<float, mtp::cpu> all(gradients_.data(), gradients_.count());
    const auto report = loss_.with_gradients(context_, model_, all, {batch}, objective_);
    static_cast<void>(balance_.take(context_, all));  // loads are no gradients
    double squares = 0;
    mtp::sum_of_squares(
        context_, mtp::vector_view<double, mtp::cpu>(&squares, mtp::dims<1>{1}), trained);
    const double norm = std::sqrt(squares);
    mtp::check(std::isfinite(norm), "retrofit: a gradient is not finite at step ", number);
    optimizer_.update(context_,
                      model_,
                      all,
                      rate_at(number, done),
                      norm > 1 ? 1 / norm : 1,
                      model_.layout.head_begin);
    balance_.update(context_, model_, optimizer_, mtp::default_bias_update_speed);
    if (options_.distils && options_.kl < 0) {
      for (std::size_t k = 1; k <= static_cast<std::size_t>(depth); ++k) {
        objective_.shares[k] = std::exp(-3 * report.depths[k].overlap);
      }
    }
    return report.total;
  }

  /// Tokens and hidden states of sequences.
  mtp::batch_view load(std::span<const mtp::index_t> sequences) {
    const mtp::index_t T = text_.length, C = Config.hidden_size;
    const auto B = static_cast<mtp::index_t>(sequences.size());
    const auto hidden = loss_.hidden(B, T);  // [B T, C]
    tokens_.clear();
    for (mtp::index_t b = 0; b < B; ++b) {
      const mtp::index_t w = sequences[static_cast<std::size_t>(b)];
      const auto sequence = text_.sequence(w);
      tokens_.insert(tokens_.end(), sequence.begin(), sequence.end());
      std::transform(states_.begin() + w * T * C,
                     states_.begin() + (w + 1) * T * C,
                     hidden.data() + b * T * C,
                     [](mtp::bf16 value) { return static_cast<float>(value); });
    }
    return {tokens_, {}, {}, B, T};
  }

  template <class Body>
  void each_held_out_batch(const Body& body) {
    std::vector<mtp::index_t> sequences;
    for (mtp::index_t w = text_.training(); w < text_.count(); ++w) {
      sequences.push_back(w);
      if (static_cast<mtp::index_t>(sequences.size()) == options_.batch || w + 1 == text_.count()) {
        body(std::span<const mtp::index_t>(sequences));
        sequences.clear();
      }
    }
  }

  void choose() {
    each_held_out_batch([&](std::span<const mtp::index_t> sequences) {
      const auto chosen = loss_.choices(context_, model_, load(sequences));
      choices_.insert(choices_.end(), chosen.begin(), chosen.end());
    });
  }

  std::vector<float> head() const {
    return {model_.values().data() + model_.layout.head_begin,
            model_.values().data() + model_.values().count()};
  }

  mtp::context<mtp::cpu>& context_;
  model_type& model_;
  const windows& text_;
  std::span<const mtp::bf16> states_;
  head_training_options options_;
  loss_type loss_;
  mtp::adamw<Config, mtp::cpu, float> optimizer_;
  mtp::expert_balance<Config, mtp::cpu, float> balance_;
  mtp::buffer<float, mtp::cpu> gradients_;
  mtp::heads_options<depth> objective_;
  std::vector<mtp::token_t> choices_;  // of the trunk, in the held-out sequences
  std::vector<mtp::token_t> tokens_;   // of a batch
  std::vector<std::size_t> order_;     // of sequences in an epoch
  std::size_t epoch_ = 0;
};

}  // namespace example
