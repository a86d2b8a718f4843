#include "decode/score_test.hpp"

#include "../examples/plain_sequential/model.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/train/evaluate.hpp"
#include "support/decoding.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::score_cases {

namespace {

constexpr auto sequential = spoken_config(head_kind::sequential, 2);
constexpr auto parallel = flipped_spoken_config(head_kind::parallel, 3);

}  // namespace

TEST_CASE("scores are those that generation reports for the same tokens") {
  check_generation<cpu, float, sequential>(144);
  check_generation<cpu, double, parallel>(144);
}

TEST_CASE("scores of a sequence do not depend on what else is scored") {
  check_company<cpu, float, sequential>();
}

TEST_CASE("a sequence longer than the context is scored in windows, each token once") {
  check_windows<cpu, float, sequential>(300);
  check_windows<cpu, float, sequential>(150);
  check_windows<cpu, double, parallel>(145);
}

TEST_CASE("hidden states of a sequence are those that its probabilities come from") {
  check_hidden<cpu, float, sequential>();
  check_hidden<cpu, double, parallel>();
}

TEST_CASE("the perplexity of windows is that of evaluate's loss") {
  constexpr auto config = parallel;
  using S = double;
  constexpr index_t T = 100, D = config.prediction.depth, V = config.vocab_size;
  cpu_context context({.threads = 2});
  language_model<config, cpu, S> model(context, seed{5});
  add_noise(model, 0.3);
  const token_list text = some_tokens(5 * T + 1 + D, V, 8);
  const dataset<> data(std::vector<std::uint8_t>(text.begin(), text.end()),
                       {},
                       {.window = T + 1 + D, .validation_share = 1, .stride = T});
  const auto report = evaluate(context, model, data).depths[0];

  sequence_list windows;
  double largest = 0;
  model_loss<config, cpu, S> loss(context, 1, T);
  for (index_t n = 0; n < data.validation_windows(); ++n) {
    const auto tokens = std::span(text).subspan(static_cast<std::size_t>(n * T),
                                                static_cast<std::size_t>(T + 1 + D));
    windows.push_back(tokens.first(static_cast<std::size_t>(T + 1)));
    loss.visit_logits(context, model, {tokens, {}, {}, 1, T}, [&](std::size_t k, auto logits) {
      for (const auto logit : elements(logits)) {
        largest = k == 0 ? std::max(largest, std::abs(static_cast<double>(logit))) : largest;
      }
    });
  }
  REQUIRE(windows.size() == 5);
  scorer<config, cpu, S> scorer(context, model);
  const auto& scored = scorer.score(windows);
  index_t counted = 0, agreed = 0;
  for (std::size_t n = 0; n < windows.size(); ++n) {
    counted += scored[n].counted;
    for (std::size_t i = 1; i < windows[n].size(); ++i) {
      agreed += scored[n].likeliest[i] == windows[n][i] ? 1 : 0;
    }
  }
  CHECK(counted == report.targets);
  CHECK(agreed == report.agreed);
  // A loss: V exponentials, each off by less than 4 roundings, their sum, a logarithm, and two sums
  // of numbers up to the largest logit. The mean: a sum over all targets, whose terms are losses.
  const double u = unit_roundoff<accumulate_t<S>>;
  const double bound = gamma(static_cast<double>(V + 8 + counted), u) *
                       (1 + report.loss + std::log(static_cast<double>(V)) + 2 * largest);
  const double nats = std::log(perplexity(scored));
  CAPTURE(nats - report.loss);
  CAPTURE(bound);
  CHECK(std::abs(nats - report.loss) <= bound);
  CHECK(bound < 1e-11);
}

TEST_CASE("scores agree with a model in plain loops that computes all rows again for each token") {
  constexpr model_config config{.vocab_size = plain::V,
                                .hidden_size = plain::C,
                                .num_hidden_layers = plain::L,
                                .max_position_embeddings = 96,
                                .attention = {.num_attention_heads = plain::H},
                                .feed_forward = {.intermediate_size = plain::F},
                                .prediction = {.kind = head_kind::sequential, .depth = plain::D}};
  cpu_context context({.threads = 2});
  language_model<config, cpu, double> model(context, seed{6});
  add_noise(model, 0.5);
  plain::model plain_model;
  const auto numbers = plain_model.all();
  std::size_t next = 0;
  model.layout.visit([&](const std::string&, const parameter& p) {
    plain::numbers& to = *numbers[next++];
    for (std::size_t i = 0; i < to.size(); ++i) {
      const auto at = static_cast<index_t>(i);
      to[i] = p.is_vector() ? model.values().vector(p)(at)
                            : model.values().matrix(p)(at / p.inputs, at % p.inputs);
    }
  });

  const token_list tokens = some_tokens(80, config.vocab_size, 2);
  scorer<config, cpu, double> scorer(context, model, 4);
  const scored_sequence& scored = scorer.score(tokens);
  long double nats = 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    CAPTURE(i);
    plain::model_pass pass;
    plain::forward_trunk(pass, plain_model, plain::text(tokens.begin(), tokens.end()), i);
    const auto last = pass[0].hidden.end() - static_cast<std::ptrdiff_t>(plain::C);
    const plain::numbers logits =
        plain::linear(plain::numbers(last, pass[0].hidden.end()), plain_model.output, plain::C);
    long double sum = 0;
    for (const double logit : logits) {
      sum += std::exp(static_cast<long double>(logit));
    }
    const auto of = [&](token_t token) {
      return static_cast<double>(logits[static_cast<std::size_t>(token)] - std::log(sum));
    };
    // Two blocks, each fewer than 250 additions one after the other, of numbers that cancel to a
    // tenth at most: see examples/plain_sequential/main.cpp.
    const auto is_near = [](double actual, double expected) {
      return std::abs(actual - expected) <= 1.1e-12 * (1 + std::abs(expected));
    };
    CHECK(is_near(scored.log_probabilities[i], of(tokens[i])));
    nats -= of(tokens[i]);
    std::vector<token_t> order(plain::V);
    for (std::size_t v = 0; v < order.size(); ++v) {
      order[v] = static_cast<token_t>(v);
    }
    std::sort(order.begin(), order.end(), [&](token_t a, token_t b) { return of(a) > of(b); });
    CHECK(scored.likeliest[i] == order[0]);
    for (std::size_t j = 0; j < 4; ++j) {
      CHECK(scored.best_tokens[4 * i + j] == order[j]);
      CHECK(is_near(scored.best_log_probabilities[4 * i + j], of(order[j])));
    }
  }
  const auto mean = static_cast<double>(nats) / 79;
  CHECK(std::abs(std::log(scored.perplexity()) - mean) <= 1.1e-12 * (1 + mean));
}

TEST_CASE("a large vocabulary is scored in pieces of a few rows, with the bits of single steps") {
  constexpr model_config config = [] {
    model_config wide = tiny_config(head_kind::none, 0);
    wide.vocab_size = 150001;
    wide.max_position_embeddings = 80;
    return wide;
  }();
  using scorer_type = scorer<config, cpu, bf16>;
  static_assert(scorer_type::logit_rows == 27 && scorer_type::step_rows == 64);
  cpu_context context({.threads = 2});
  language_model<config, cpu, bf16> model(context, seed{5});
  scorer_type scorer(context, model, 5);
  const token_list text = some_tokens(67, config.vocab_size, 5);
  const scored_sequence scored = scorer.score(text);
  decoder<config, cpu, bf16> steps(context, model);
  scored_sequence expected = scored;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const auto logits = steps.step(std::span(text).subspan(i - 1, 1), hidden_states::dropped);
    const vector_view<double, cpu> log_probability(&expected.log_probabilities[i], dims<1>{1});
    token_log_probabilities(
        context, log_probability, logits, vector_view<const token_t, cpu>(&text[i], dims<1>{1}));
    predict(context, vector_view<token_t, cpu>(&expected.likeliest[i], dims<1>{1}), logits);
    best_tokens(context,
                matrix_view<token_t, cpu>(&expected.best_tokens[5 * i], dims<2>{1, 5}),
                matrix_view<double, cpu>(&expected.best_log_probabilities[5 * i], dims<2>{1, 5}),
                logits);
  }
  CHECK(same_scores(scored, expected));
  check_sum(scored);
}

TEST_CASE("scoring refuses what it cannot score, says where it stands, and loses nothing") {
  constexpr auto config = sequential;
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{5});
  scorer<config, cpu> scorer(context, model, 1);
  const token_list good = some_tokens(20, config.vocab_size, 1), one{3},
                   longer = some_tokens(145, config.vocab_size, 2);
  const auto& scored = scorer.score(sequence_list{good, good});
  const std::vector<scored_sequence> before = scored;
  const auto refused = [&](const char* message,
                           const sequence_list& list,
                           const score_options<float, cpu>& options = {}) {
    CHECK(fails_with(message, [&] { scorer.score(list, options); }));
    REQUIRE(scored.size() == 2);
    CHECK(same_scores(scored[0], before[0]));
    CHECK(same_scores(scored[1], before[1]));
  };
  refused("score: sequence 1 is empty", {good, {}, good});
  refused("score: expected at least 2 tokens, got 1 as sequence 2", {good, good, one});
  refused("score: sequence 1 of 145 tokens exceeds max_position_embeddings 144; a stride",
          {good, longer});
  for (const token_t wrong : {-1, 19}) {
    token_list bad = good;
    bad[7] = wrong;
    refused(("score: token " + std::to_string(wrong) +
             " at position 7 of sequence 2 does not lie in [0, 19)")
                .c_str(),
            {good, longer, bad},
            {.stride = 5});
  }
  refused("score: expected a stride in [0, 144), so that windows of 144 tokens overlap, got 144",
          {good},
          {.stride = 144});
  refused("score: expected a stride in [0, 144)", {good}, {.stride = -1});
}

TEST_CASE(
    "a scorer is told how many best tokens it gives, and refuses numbers that make no sense") {
  constexpr auto config = sequential;
  using scorer_type = scorer<config, cpu>;
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{5});
  for (const index_t best : {-1, 20}) {
    CHECK(fails_with(
        "scorer: expected a number of best tokens in [0, 19], got " + std::to_string(best),
        [&] { const scorer_type refused(context, model, best); }));
  }
  static_assert(scorer_type::memory_bytes(19) > scorer_type::memory_bytes(0));
  static_assert(scorer_type::memory_bytes(0) > decoder<config, cpu>::memory_bytes());
  scorer_type all(context, model, 19), none(context, model);
  const token_list text = some_tokens(5, 19, 1);
  CHECK(all.score(text).best_tokens.size() == 5 * 19);
  CHECK(none.score(text).best_tokens.empty());
  CHECK(none.score(sequence_list{}).empty());
  CHECK(std::isnan(perplexity(none.score(sequence_list{}))));
}

TEST_CASE("what a callback of a scorer throws goes through, and the next call is as any other") {
  constexpr auto config = sequential;
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{5});
  scorer<config, cpu> scorer(context, model);
  const token_list text = some_tokens(20, 19, 1);
  const scored_sequence expected = scorer.score(text);
  CHECK_THROWS_AS(scorer.score(text, {.on_hidden = [](const auto&) { throw 5; }}), int);
  CHECK(same_scores(scorer.score(text), expected));
  bool refused = false;
  scorer.score(text, {.on_hidden = [&](const auto&) {
                 refused = bool(fails_with("score: called from a callback of the same scorer",
                                           [&] { scorer.score(text); }));
               }});
  CHECK(refused);
  CHECK(same_scores(scorer.score(text), expected));
}

}  // namespace mtp::test::score_cases
