// Decoding: tokens per second with every number of drafts, of several sequences, and what a pass
// over several rows costs. Whatever is set in relation takes turns within one benchmark, an
// iteration of which is a turn of each; ratios are taken in each iteration, and counters have their
// median, and the lowest and highest as _min and _max.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench.hpp"
#include "decoding.hpp"

namespace mtp::bench {
namespace {

constexpr int turns = 7, row_turns = 15;

/// Kept until another one is wanted: the large ones take seconds to fill with random numbers.
decoding_model& model_of(const model_entry& entry, draft_fate fate) {
  static std::unique_ptr<decoding_model> made;
  static const model_entry* made_of = nullptr;
  static draft_fate made_with{};
  if (made_of != &entry || made_with != fate) {
    made.reset();
    made = entry.make(fate, context().threads());
    made_of = &entry;
    made_with = fate;
  }
  return *made;
}

void report_ratios(benchmark::State& state,
                   const std::string& name,
                   const std::vector<double>& of,
                   const std::vector<double>& to) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < of.size(); ++i) {
    ratios.push_back(of[i] / to[i]);
  }
  state.counters[name] = median(ratios);
  state.counters[name + "_min"] = *std::min_element(ratios.begin(), ratios.end());
  state.counters[name + "_max"] = *std::max_element(ratios.begin(), ratios.end());
}

/// A way of writing, and how fast it was in each turn.
struct contender {
  std::string name;
  writing_options options;
  std::unique_ptr<writing> text{};
  std::vector<double> rates{};  // tokens per second
};

/// Every iteration begins with another one.
void take_turns(benchmark::State& state,
                const model_entry& entry,
                decoding_model& model,
                std::vector<contender>& contenders) {
  for (contender& each : contenders) {
    each.text = model.write(each.options);
    each.text->go_on(entry.turn);
  }
  std::size_t first = 0;
  for (auto _ : state) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      contender& next = contenders[(first + i) % contenders.size()];
      next.rates.push_back(next.text->go_on(entry.turn));
    }
    ++first;
  }
  for (const contender& each : contenders) {
    state.counters["tokens_per_second_" + each.name] = median(each.rates);
  }
}

/// Plain decoding, every number of drafts (of several sequences the largest alone), and as many
/// drafts as pay.
void drafts_bench(benchmark::State& state, const model_entry& entry, draft_fate fate) {
  const index_t sequences = state.range(0), context = state.range(1);
  const index_t depth = entry.config.prediction.depth;
  std::vector<contender> contenders;
  contenders.push_back({"plain", {sequences, context, 0}});
  for (index_t drafts = sequences == 1 ? 1 : depth; drafts <= depth; ++drafts) {
    contenders.push_back({"drafts_" + std::to_string(drafts), {sequences, context, drafts}});
  }
  contenders.push_back({"adaptive", {sequences, context, depth, true}});
  take_turns(state, entry, model_of(entry, fate), contenders);

  const contender* best = &contenders.front();
  for (const contender& each : contenders) {
    const bool is_constant = &each != &contenders.back();
    if (is_constant && &each != &contenders.front()) {
      const double expected = fate == draft_fate::accepted ? 1 : 0;
      if (!near_enough(
              state, "the share of accepted drafts", each.text->acceptance(), expected, 0)) {
        return;
      }
    }
    if (is_constant && median(each.rates) > median(best->rates)) {
      best = &each;
    }
    if (&each != &contenders.front()) {
      report_ratios(state, each.name + "_over_plain", each.rates, contenders.front().rates);
    }
  }
  report_ratios(state, "adaptive_over_best", contenders.back().rates, best->rates);
}

/// Of 1, 4 and 16 sequences, with `drafts` drafts in a cycle, all accepted.
void sequences_bench(benchmark::State& state, const model_entry& entry, index_t drafts) {
  std::vector<contender> contenders;
  for (const index_t sequences : {1, 4, 16}) {
    contenders.push_back({std::to_string(sequences), {sequences, state.range(0), drafts}});
  }
  take_turns(state, entry, model_of(entry, draft_fate::accepted), contenders);
  for (std::size_t i = 1; i < contenders.size(); ++i) {
    report_ratios(
        state, contenders[i].name + "_over_1", contenders[i].rates, contenders.front().rates);
  }
}

/// C(M) / C(1) for M = 1 .. 16: of one sequence or of M. In every other iteration the most rows
/// come first.
void rows_bench(benchmark::State& state, const model_entry& entry, bool of_one) {
  constexpr auto most = static_cast<std::size_t>(row_passes::most);
  const auto passes = model_of(entry, draft_fate::accepted).passes(state.range(0));
  const auto pass = [&](std::size_t M) {
    const auto rows = static_cast<index_t>(M);
    return of_one ? passes->of_one_sequence(rows) : passes->of_sequences(rows);
  };
  std::vector<std::vector<double>> seconds(most + 1);
  for (std::size_t M = 1; M <= most; ++M) {
    pass(M);
  }
  bool descends = false;
  for (auto _ : state) {
    for (std::size_t i = 1; i <= most; ++i) {
      const std::size_t M = descends ? most + 1 - i : i;
      seconds[M].push_back(pass(M));
    }
    descends = !descends;
  }
  for (std::size_t M = 1; M <= most; ++M) {
    const std::string rows = std::to_string(M);
    state.counters["ms_" + rows] = 1e3 * median(seconds[M]);
    if (M > 1) {
      report_ratios(state, rows + "_over_1", seconds[M], seconds[1]);
    }
  }
}

template <class Function>
benchmark::internal::Benchmark* add(const std::string& name, int iterations, Function function) {
  return benchmark::RegisterBenchmark(name.c_str(), function)
      ->Iterations(iterations)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_drafting(const model_entry& entry) {
  const std::string of =
      entry.size + "/" + entry.type + "/" + std::string(name_of(entry.config.prediction.kind));
  for (const draft_fate fate : {draft_fate::accepted, draft_fate::rejected}) {
    const std::string name =
        "drafts/" + of + (fate == draft_fate::accepted ? "/accepted" : "/rejected");
    auto* const bench = add(
        name, turns, [&entry, fate](benchmark::State& state) { drafts_bench(state, entry, fate); });
    for (const index_t context : entry.contexts) {
      bench->Args({1, context});
    }
    for (const index_t sequences : {4, 16}) {
      bench->Args({sequences, entry.contexts.front()});
    }
  }
  add("sequences/" + of, turns, [&entry](benchmark::State& state) {
    sequences_bench(state, entry, entry.config.prediction.depth);
  })->Arg(entry.contexts.front());
}

void add_plain(const model_entry& entry) {
  const std::string of = entry.size + "/" + entry.type;
  auto* const plain = add("sequences/" + of + "/plain", turns, [&entry](benchmark::State& state) {
    sequences_bench(state, entry, 0);
  });
  for (const index_t context : entry.contexts) {
    plain->Arg(context);
  }
  for (const bool of_one : {true, false}) {
    auto* const rows =
        add((of_one ? "rows_of_one/" : "rows_of_sequences/") + of,
            row_turns,
            [&entry, of_one](benchmark::State& state) { rows_bench(state, entry, of_one); });
    for (const index_t context : entry.contexts) {
      rows->Arg(context);
    }
  }
}

}  // namespace

void add_model(const model_entry& entry) {
  static std::deque<model_entry> entries;  // of which none moves
  const model_entry& added = entries.emplace_back(entry);
  if (added.config.prediction.drafts()) {
    add_drafting(added);
  } else {
    add_plain(added);
  }
}

}  // namespace mtp::bench
