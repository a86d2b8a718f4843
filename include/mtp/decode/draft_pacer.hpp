// How many tokens to draft: as many as pay, by what passes cost here and how often drafts are
// right.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/decode/cycle.hpp"

namespace mtp::inline MTP_ABI {

/// What something costs in undisturbed moments: falls with each lower measurement by a quarter of
/// the difference, rises with each higher one by 1/64, so that it stays near the lowest of what is
/// measured and follows a machine that changes.
class running_cost {
 public:
  /// Adds a measurement, in seconds.
  void add(double seconds) {
    estimate_ += known() ? (seconds - estimate_) / (seconds < estimate_ ? 4 : 64) : seconds;
    measured_ = (std::min)(measured_ + 1, enough);
  }
  /// Whether there was any.
  bool known() const { return measured_ > 0; }
  /// Whether there were so many that some were undisturbed.
  bool reliable() const { return measured_ == enough; }
  /// The cost, in seconds; 0 where nothing was measured.
  double seconds() const { return estimate_; }

 private:
  static constexpr int enough = 16;

  double estimate_ = 0;
  int measured_ = 0;
};

/// Chooses the number of drafts of each sequence before every cycle, the numbers n_s that make
///
///     (sum over s of 1 + sum over k <= n_s of a_s1 .. a_sk)
///       / (C(M) + C_draft(max n_s, sequences that draft) + sum over s of lag_s(n_s))
///
/// the largest: expected tokens per second. a_sk is the running share of drafts at place k that
/// were accepted where the one in front of them was, C(M) what passes over M rows cost, no less
/// than those over fewer, C_draft what drafting costs, lag what it takes to bring a head up to date
/// that has paused; costs that were not met are interpolated (the objective of Leviathan et al.
/// 2023, arXiv 2211.17192, section 3.3, with measured costs). Where it drafts nothing, it tries
/// again from time to time, as long as all tries take no more than a hundredth of the time.
///
/// The length of a draft never changes what is written, so it may follow the clock.
class draft_pacer {
 public:
  /// For `slots` slots and at most `depth` drafts.
  draft_pacer(index_t slots, index_t depth)
      : depth_(depth),
        verify_(static_cast<std::size_t>(slots * (depth + 1) + 1)),
        draft_(static_cast<std::size_t>(depth + 1),
               std::vector<running_cost>(static_cast<std::size_t>(slots + 1))),
        rates_(static_cast<std::size_t>(depth), initial_rate) {
    slots_.resize(static_cast<std::size_t>(slots), {rates_, {}, 0, 0, 0, false});
    for (slot_state& slot : slots_) {
      slot.drafts.resize(rates_.size());
    }
    for (auto* counts : {&chosen_, &counts_}) {
      counts->reserve(slots_.size());
    }
    reach_.reserve(slots_.size());
  }

  /// A new sequence in a slot.
  void begin(index_t slot) {
    slot_state& begun = at(slot);
    std::copy(rates_.begin(), rates_.end(), begun.rate.begin());
    std::fill(begun.drafts.begin(), begun.drafts.end(), 0);
    begun.tries = first_tries;
    begun.seconds = begun.spent = 0;
    begun.is_try = false;
  }

  /// Sets the drafts of the steps that are `adaptive(step)`, to no more than they ask for.
  /// lag(step): seconds that it takes to bring the head up to date for as many as the step has.
  template <class Adaptive, class Lag>
  void choose(std::span<slot_step> steps, const Adaptive& adaptive, const Lag& lag) {
    const auto sequences = static_cast<index_t>(steps.size());
    chosen_.assign(steps.size(), 0);
    plan(steps, adaptive, lag);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      slot_step& step = steps[i];
      if (!adaptive(step) || step.drafts == 0) {
        continue;
      }
      index_t n = chosen_[i];
      slot_state& slot = at(step.slot);
      if (slot.tries > 0) {
        --slot.tries;
        n = step.drafts;
      } else if (cycles_ % (cycles_ < settled ? measuring_soon : measuring) == 0) {
        n = 0;  // to know what a plain pass costs
      } else if (n == 0) {
        const double try_cost =
            cost(sequences + step.drafts, step.drafts, 1) - cost(sequences, 0, 0) + lag(step);
        if (slot.spent + try_cost < tried_share * slot.seconds) {
          slot.spent += try_cost;
          slot.is_try = true;
          n = step.drafts;
        }
      } else if (n < step.drafts && cycles_ % looking_further == 0) {
        ++n;
      }
      step.drafts = n;
    }
    ++cycles_;
  }

  /// What a cycle of at least one sequence took: it verified M rows, and `drafting` of its
  /// sequences drafted, none more than n tokens.
  void observe(
      index_t M, index_t n, index_t drafting, const cycle_seconds& seconds, index_t sequences) {
    verify_[static_cast<std::size_t>(M)].add(seconds.verify + seconds.accept);
    if (n > 0) {
      draft_[static_cast<std::size_t>(n)][static_cast<std::size_t>(drafting)].add(seconds.draft);
    }
    const double all = seconds.verify + seconds.accept + seconds.draft;
    last_share_ = all / static_cast<double>(sequences);
  }
  /// How many drafts of a step of that cycle were accepted.
  void observe(const slot_step& step, index_t accepted) {
    slot_state& slot = at(step.slot);
    slot.seconds += last_share_;
    for (index_t k = 0; k < step.drafts && k <= accepted; ++k) {
      const double right = k < accepted ? 1 : 0;
      const auto place = static_cast<std::size_t>(k);
      slot.drafts[place] = (std::min)(slot.drafts[place] + 1, remembered);
      slot.rate[place] += (right - slot.rate[place]) / (slot.drafts[place] + 2);
      rates_[place] += (right - rates_[place]) / (2 * remembered);
    }
    if (step.drafts > 0) {
      if (accepted == 0) {
        slot.tries = (std::max<index_t>)(slot.tries - 2, 0);
      }
      if (slot.is_try) {
        slot.is_try = false;
        slot.tries = accepted == step.drafts ? 2 : 0;  // goes on as long as they are right
      }
    }
  }

 private:
  static constexpr double initial_rate = 0.75;  // of a head that nobody has seen
  static constexpr int remembered = 32;         // drafts that a share is made of, about
  static constexpr index_t first_tries = 6;     // cycles in which a new sequence drafts
  static constexpr index_t settled = 64, measuring_soon = 8, measuring = 128;
  static constexpr index_t looking_further = 64;
  static constexpr double tried_share = 0.01;  // of the time

  struct slot_state {
    std::vector<double> rate;  // accepted drafts, by place
    std::vector<int> drafts;   // that it is made of, up to `remembered`
    index_t tries = 0;         // cycles to draft in at any rate
    double seconds = 0;        // that its cycles took
    double spent = 0;          // of these, on tries
    bool is_try = false;
  };
  slot_state& at(index_t slot) { return slots_[static_cast<std::size_t>(slot)]; }

  /// chosen_ = the best numbers of drafts. Drafts are added one by one, the likeliest first; the
  /// best of all these plans is kept, because the first draft may cost more than it brings.
  template <class Adaptive, class Lag>
  void plan(std::span<const slot_step> steps, const Adaptive& adaptive, const Lag& lag) {
    auto rows = static_cast<index_t>(steps.size());
    double tokens = static_cast<double>(rows);
    index_t deepest = 0, drafting = 0;
    double lags = 0;
    reach_.assign(steps.size(), 1.0);
    counts_.assign(steps.size(), 0);
    for (const slot_step& step : steps) {
      if (!adaptive(step)) {
        rows += step.drafts;
        deepest = (std::max)(deepest, step.drafts);
        drafting += step.drafts > 0 ? 1 : 0;
      }
    }
    double best = tokens / cost(rows, deepest, drafting);
    for (;;) {
      std::size_t next = steps.size();
      double likeliest = 0;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        if (adaptive(steps[i]) && counts_[i] < steps[i].drafts) {
          const double p = reach_[i] * at(steps[i].slot).rate[static_cast<std::size_t>(counts_[i])];
          if (next == steps.size() || p > likeliest) {
            next = i;
            likeliest = p;
          }
        }
      }
      if (next == steps.size()) {
        return;
      }
      reach_[next] = likeliest;
      tokens += likeliest;
      ++rows;
      slot_step longer = steps[next];
      longer.drafts = counts_[next];
      lags -= counts_[next] > 0 ? lag(longer) : 0;
      drafting += counts_[next] > 0 ? 0 : 1;
      longer.drafts = ++counts_[next];
      lags += lag(longer);
      deepest = (std::max)(deepest, counts_[next]);
      if (const double speed = tokens / (cost(rows, deepest, drafting) + lags); speed > best) {
        best = speed;
        chosen_ = counts_;
      }
    }
  }

  /// Seconds of a cycle. More rows never cost less than fewer that were met often: a number that
  /// was met once, in a lucky moment, would be chosen again and again.
  double cost(index_t rows, index_t drafts, index_t drafting) const {
    double verify = interpolated(verify_, static_cast<std::size_t>(rows));
    for (index_t fewer = 1; fewer < rows; ++fewer) {
      const running_cost& other = verify_[static_cast<std::size_t>(fewer)];
      verify = other.reliable() ? (std::max)(verify, other.seconds()) : verify;
    }
    return verify + (drafts > 0 ? draft_cost(drafts, drafting) : 0);
  }

  /// Of what was measured, the line through the nearest two; 1 where nothing was.
  static double interpolated(const std::vector<running_cost>& costs, std::size_t at) {
    if (costs[at].known()) {
      return costs[at].seconds();
    }
    std::size_t below = at, above = at;
    while (below > 0 && !costs[below].known()) {
      --below;
    }
    while (above + 1 < costs.size() && !costs[above].known()) {
      ++above;
    }
    const bool has_below = costs[below].known(), has_above = costs[above].known();
    if (has_below && has_above) {
      const double share = static_cast<double>(at - below) / static_cast<double>(above - below);
      return costs[below].seconds() + share * (costs[above].seconds() - costs[below].seconds());
    }
    return has_below ? costs[below].seconds() : (has_above ? costs[above].seconds() : 1.0);
  }

  /// Seconds of drafting at most n tokens in so many sequences: in proportion to what was measured
  /// next to it, first with other sequences, then with other drafts.
  double draft_cost(index_t n, index_t sequences) const {
    for (index_t away = 0; away <= depth_; ++away) {
      for (const index_t other : {n + away, n - away}) {
        if (other >= 1 && other <= depth_) {
          const auto& measured = draft_[static_cast<std::size_t>(other)];
          if (const double seconds = next_to(measured, sequences); seconds > 0) {
            return seconds * static_cast<double>(n) / static_cast<double>(other);
          }
        }
      }
    }
    return 0;
  }
  /// The cost that is measured nearest to `at`, in proportion if it is of fewer; 0 for none.
  static double next_to(const std::vector<running_cost>& costs, index_t at) {
    for (index_t away = 0; away < static_cast<index_t>(costs.size()); ++away) {
      for (const index_t other : {at + away, at - away}) {
        if (other >= 1 && other < static_cast<index_t>(costs.size()) &&
            costs[static_cast<std::size_t>(other)].known()) {
          return costs[static_cast<std::size_t>(other)].seconds() *
                 (std::max)(1.0, static_cast<double>(at) / static_cast<double>(other));
        }
      }
    }
    return 0;
  }

  index_t depth_;
  std::vector<running_cost> verify_;              // by rows
  std::vector<std::vector<running_cost>> draft_;  // by drafts, by sequences that draft
  std::vector<double> rates_;                     // of all sequences, by place
  std::vector<slot_state> slots_;
  index_t cycles_ = 0;
  double last_share_ = 0;
  std::vector<index_t> chosen_, counts_;  // drafts of each step
  std::vector<double> reach_;             // probability that a step's drafts so far are accepted
};

}  // namespace mtp::inline MTP_ABI
