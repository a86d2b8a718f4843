// Heads that are trained alone: the losses and gradients of a frozen trunk, and differences.
#include "mtp/loss/heads_loss.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "mtp/model/heads_model.hpp"
#include "mtp/model/trunk_states.hpp"
#include "support/gradcheck.hpp"
#include "support/model.hpp"

namespace mtp::test::loss_heads_loss_cases {

namespace {

constexpr index_t B = 2, T = 7;

/// A model, the stream of a batch, and what a head makes of it.
template <model_config Config>
struct alone {
  using loss_type = heads_loss<Config, cpu, double>;
  using vocabulary_type = draft_vocabulary<Config, cpu, double>;
  using options_type = heads_options<Config.prediction.depth>;
  using report_type = heads_report<Config.prediction.depth>;
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);

  explicit alone(const token_batch& given) : batch(given), subject(2, B, T) {
    trunk_states<Config, cpu, double> states(subject.context, B, T);
    std::vector<token_t> tokens;  // [B, T]
    for (index_t b = 0; b < B; ++b) {
      const auto row = batch.tokens.begin() + b * batch.row();
      tokens.insert(tokens.end(), row, row + T);
    }
    stream = elements(states(subject.context, subject.model, tokens, T));
    for (std::size_t k = 1; k <= D; ++k) {
      options.weights[k] = 1 / (1 + 0.4 * static_cast<double>(k));
      options.shares[k] = 1 / (1 + static_cast<double>(k));
    }
  }

  report_type losses(loss_type& loss) {
    fill(loss);
    return loss.without_gradients(subject.context, subject.model, given(), options);
  }
  std::vector<double> gradients(loss_type& loss) {
    std::vector<double> all(static_cast<std::size_t>(subject.layout.storage), 0.0);
    fill(loss);
    report = loss.with_gradients(subject.context,
                                 subject.model,
                                 {all.data(), static_cast<index_t>(all.size())},
                                 given(),
                                 options);
    return all;
  }
  void fill(loss_type& loss) { std::copy(stream.begin(), stream.end(), loss.hidden(B, T).data()); }
  heads_batch given() const { return {batch.view(), choices}; }

  token_batch batch;
  mtp::test::subject<Config, double> subject;
  std::vector<double> stream;    // [B T, C]
  std::vector<token_t> choices;  // [B T], or none
  options_type options;
  report_type report;
};

/// Gradients of the head against differences of the total.
template <model_config Config>
void check_differences(alone<Config>& tested, heads_loss<Config, cpu, double>& loss) {
  const auto gradients = tested.gradients(loss);
  CHECK(tested.losses(loss).total == tested.report.total);
  tested.subject.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto slope = rows_of<double>(gradients, p);
    if (p.offset < tested.subject.layout.head_begin) {
      CHECK(same_bits(slope, std::vector<double>(slope.size(), 0.0)));
      return;
    }
    const auto x = tested.subject.rows(p);
    const auto total = [&](std::span<const double> moved) {
      tested.subject.set(p, moved);
      return tested.losses(loss).total;
    };
    CHECK(gradient_matches(total, x, slope, {.all_coordinates = 16, .directions = 3}));
    tested.subject.set(p, x);
  });
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a head alone has the losses and gradients that it has on a frozen trunk",
                          Head,
                          same_as_whole) {
  constexpr auto config = Head::config;
  alone<config> tested(divided_batch(config, B, T, 3));
  heads_loss<config, cpu, double> loss(tested.subject.context, B, T);
  const auto gradients = tested.gradients(loss);

  loss_options<config.prediction.depth> options{.normalization = loss_normalization::valid_targets,
                                                .scope = gradient_scope::heads_only,
                                                .weights = tested.options.weights};
  options.weights[0] = 1;
  const auto whole = tested.subject.losses(tested.batch, options);
  const auto whole_gradients = tested.subject.gradients(tested.batch, options);
  CHECK(same_bits(gradients, whole_gradients));
  CHECK(std::any_of(gradients.begin(), gradients.end(), [](double x) { return x != 0; }));
  const auto report = tested.losses(loss);
  for (std::size_t k = 1; k < report.depths.size(); ++k) {
    CHECK(report.depths[k].loss == whole.depths[k].loss);
    CHECK(report.depths[k].targets == whole.depths[k].targets);
    CHECK(report.depths[k].scored == whole.depths[k].targets);
    CHECK(report.depths[k].agreed == whole.depths[k].agreed);
  }

  // With the last block only, and the next tokens that the whole model chooses.
  constexpr auto small_config = heads_config(config);
  language_model<small_config, cpu, double> small(tested.subject.context, seed{9});
  copy_for_heads(small, tested.subject.model);
  heads_loss<small_config, cpu, double> small_loss(tested.subject.context, B, T);
  std::vector<double> small_gradients(static_cast<std::size_t>(small.values().count()), 0.0);
  const auto fill = [&] {
    std::copy(tested.stream.begin(), tested.stream.end(), small_loss.hidden(B, T).data());
  };
  fill();
  CHECK(small_loss
            .with_gradients(tested.subject.context,
                            small,
                            {small_gradients.data(), small.values().count()},
                            {tested.batch.view()},
                            tested.options)
            .total == report.total);
  const auto head_of = [](const std::vector<double>& all, index_t begin) {
    return std::vector<double>(all.begin() + begin, all.end());
  };
  CHECK(same_bits(head_of(small_gradients, small.layout.head_begin),
                  head_of(gradients, tested.subject.layout.head_begin)));
  fill();
  const auto choices = small_loss.choices(tested.subject.context, small, tested.batch.view());
  const auto logits = tested.subject.logits(tested.batch)[0];  // [N, V]
  REQUIRE(choices.size() == static_cast<std::size_t>(B * T));
  for (std::size_t n = 0; n < choices.size(); ++n) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(n) * config.vocab_size;
    CHECK(choices[n] == std::max_element(row, row + config.vocab_size) - row);
  }
}
template <head_kind Kind, int Depth, bool Flipped>
struct head_case {
  static constexpr auto config = Flipped ? flipped_config(Kind, Depth) : tiny_config(Kind, Depth);
};
TEST_CASE_TEMPLATE_APPLY(same_as_whole,
                         std::tuple<head_case<head_kind::sequential, 2, false>,
                                    head_case<head_kind::parallel, 2, false>,
                                    head_case<head_kind::independent, 2, true>,
                                    head_case<head_kind::recurrent, 3, true>>);

TEST_CASE("gradients of a sequential head alone are those of its losses") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  alone<config> tested(divided_batch(config, B, T, 5));
  const std::vector<token_t> part{3, 17, 4, 8, 11, 0, 5, 9};
  draft_vocabulary<config, cpu, double> vocabulary(tested.subject.model, part, 1);
  SUBCASE("cross entropy, of a part of the vocabulary") {
    heads_loss<config, cpu, double> loss(tested.subject.context, B, T, &vocabulary);
    check_differences(tested, loss);
    CHECK(tested.report.depths[1].scored < tested.report.depths[1].targets);
    CHECK(tested.report.depths[1].scored > 0);
  }
  SUBCASE("distillation, of a part of the vocabulary") {
    heads_loss<config, cpu, double> loss(tested.subject.context, B, T, &vocabulary, true);
    tested.options.distils = true;
    check_differences(tested, loss);
    CHECK(tested.report.depths[1].overlap > 0.01);
    CHECK(tested.report.depths[1].overlap < 0.99);
  }
}

TEST_CASE("gradients of an independent head alone reach its own output matrices") {
  constexpr auto config = tiny_config(head_kind::independent, 2);
  alone<config> tested(random_batch(config, B, T, 6));
  heads_loss<config, cpu, double> loss(tested.subject.context, B, T, nullptr, true);
  tested.options.distils = true;
  check_differences(tested, loss);
}

TEST_CASE("drafts are compared with what the trunk chooses, along the chain") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  alone<config> tested(random_batch(config, B, T, 7));
  heads_loss<config, cpu, double> loss(tested.subject.context, B, T);
  const auto logits = tested.subject.logits(tested.batch);  // each [N, V]
  const auto best = [&](std::size_t k, index_t n) {
    const auto row = logits[k].begin() + n * config.vocab_size;
    return static_cast<token_t>(std::max_element(row, row + config.vocab_size) - row);
  };
  // The trunk's choices are made such that both drafts of position 0 are right, the second one of
  // position 2 alone, and the first one of position 4 alone.
  tested.choices.assign(static_cast<std::size_t>(B * T), 0);
  for (index_t n = 0; n < B * T; ++n) {
    const index_t i = n % T;
    const auto other = [](token_t token) { return (token + 1) % config.vocab_size; };
    tested.choices[static_cast<std::size_t>(n)] = i == 1 || i == 5   ? best(1, n - 1)
                                                  : i == 2 || i == 4 ? best(2, n - 2)
                                                  : i > 0            ? other(best(1, n - 1))
                                                                     : 0;
  }
  index_t agreed[3]{}, chained[3]{}, targets[3]{};
  for (index_t n = 0; n < B * T; ++n) {
    bool chain = true;
    for (index_t k = 1; k <= 2; ++k) {
      if (n % T + k >= T) continue;
      const bool agrees =
          tested.choices[static_cast<std::size_t>(n + k)] == best(static_cast<std::size_t>(k), n);
      chain = chain && agrees;
      ++targets[k];
      agreed[k] += agrees ? 1 : 0;
      chained[k] += chain ? 1 : 0;
    }
  }
  const auto report = tested.losses(loss);
  double tokens = 1;
  for (std::size_t k = 1; k <= 2; ++k) {
    CHECK(report.depths[k].targets == targets[k]);
    CHECK(report.depths[k].agreed == agreed[k]);
    CHECK(report.depths[k].chained == chained[k]);
    tokens += static_cast<double>(chained[k]) / static_cast<double>(targets[k]);
  }
  CHECK(agreed[1] > chained[2]);
  CHECK(agreed[2] > chained[2]);
  CHECK(report.tokens_per_pass() == doctest::Approx(tokens));

  // Reports of batches add up.
  auto sum = report;
  sum.add(report, tested.options);
  CHECK(sum.total == doctest::Approx(report.total));
  CHECK(sum.depths[2].chained == 2 * chained[2]);
  CHECK(sum.tokens_per_pass() == doctest::Approx(tokens));
}

TEST_CASE("each depth is pulled towards the trunk's distribution of the token that it drafts") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  alone<config> tested(random_batch(config, B, T, 9));
  heads_loss<config, cpu, double> loss(tested.subject.context, B, T, nullptr, true);
  tested.options.distils = true;
  const auto logits = tested.subject.logits(tested.batch);  // each [N, V]
  const auto softmax = [&](std::size_t k, index_t n) {
    std::vector<double> p(logits[k].begin() + n * config.vocab_size,
                          logits[k].begin() + (n + 1) * config.vocab_size);
    double sum = 0;
    for (double& value : p) sum += value = std::exp(value);
    for (double& value : p) value /= sum;
    return p;
  };
  const auto report = tested.losses(loss);
  for (index_t k = 1; k <= 2; ++k) {
    double overlap = 0, divergence = 0;
    index_t count = 0;
    for (index_t n = 0; n < B * T; ++n) {
      if (n % T + k >= T) continue;  // the trunk has no row there
      ++count;
      const auto p = softmax(0, n + k), q = softmax(static_cast<std::size_t>(k), n);
      for (std::size_t v = 0; v < p.size(); ++v) {
        overlap += std::min(p[v], q[v]);
        divergence += p[v] * std::log(p[v] / q[v]);
      }
    }
    const auto& depth = report.depths[static_cast<std::size_t>(k)];
    const double share = tested.options.shares[static_cast<std::size_t>(k)];
    const auto rows = static_cast<double>(count);
    CHECK(depth.scored == count);
    CHECK(depth.overlap == doctest::Approx(overlap / rows));
    CHECK(depth.loss ==
          doctest::Approx(share * divergence / rows + (1 - share) * (1 - overlap / rows)));
  }
}

TEST_CASE("what a head alone cannot be trained with is refused") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  alone<config> tested(random_batch(config, B, T, 8));
  heads_loss<config, cpu, double> loss(tested.subject.context, B, T);
  const auto refused = [&](const char* words) {
    CHECK_THROWS_WITH_AS(tested.losses(loss), doctest::Contains(words), error);
  };
  tested.options.distils = true;
  refused("distillation needs memory");
  tested.options.distils = false;
  tested.options.weights[2] = -1;
  refused("weight of at least 0 for depth 2");
  tested.options.weights[2] = 1;
  tested.choices = {1, 2};
  refused("expected 14 choices of the trunk, got 2");
  tested.choices.assign(14, 19);
  refused("the choice 19 does not lie in [0, 19)");
  tested.choices.clear();
  tested.batch.tokens[3] = 19;
  refused("token 19");
  CHECK_THROWS_WITH_AS(loss.hidden(3, T), doctest::Contains("does not fit"), error);
  CHECK_THROWS_WITH_AS((heads_loss<config, cpu, double>(tested.subject.context, 1, 49)),
                       doctest::Contains("a length in [1, 48]"),
                       error);
}

}  // namespace mtp::test::loss_heads_loss_cases
