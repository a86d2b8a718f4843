// Many sequences at once: each gets, bit for bit, what it would get alone.
#include "mtp/decode/batch_generator.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/decoding.hpp"
#include "support/promises.hpp"

namespace mtp::test::batch_generator_cases {

namespace {

using tokens_type = std::vector<token_t>;

/// A request and what it gets alone.
template <model_config Config, class S>
struct ordered {
  tokens_type prompt;
  generate_options<S, cpu> options;
  transcript<accumulate_t<S>, Config.prediction.depth> alone, together;
  index_t number = -1;
};

/// Requests of every kind: prompts of one token to several pieces, greedy and sampled, plain and
/// speculative, short and to the end of the context.
template <model_config Config, class S>
std::vector<ordered<Config, S>> orders(cpu_context& context,
                                       language_model<Config, cpu, S>& model) {
  constexpr int V = Config.vocab_size;
  const index_t lengths[] = {1, 2, 9, 70, 5, 129, 30, 3, 64, 12};
  std::vector<ordered<Config, S>> all;
  for (index_t i = 0; i < 10; ++i) {
    ordered<Config, S> order;
    order.prompt = random_tokens(lengths[i], V, static_cast<std::uint64_t>(i));
    order.options = options_of<S>(i % 4 == 3 ? decode_mode::plain : decode_mode::speculative,
                                  i % 3 == 0 ? 200 : 10 + 3 * i);
    order.options.log_probabilities = i % 2 == 0;
    order.options.best_tokens = i % 4 == 2 ? 3 : 0;
    if (i % 3 != 1) {
      order.options.sampling.temperature = 0.7 + 0.1 * static_cast<double>(i % 3);
      order.options.sampling.seed = seed{static_cast<std::uint64_t>(100 + i % 2)};
      order.options.sampling.sequence = static_cast<std::uint32_t>(i);
      order.options.sampling.top_k = i % 2 == 0 ? 7 : 0;
      order.options.sampling.frequency_penalty = i % 5 == 0 ? 0.3 : 0.0;
    }
    if (i % 5 == 2) {
      order.options.stop_tokens = {3};
      order.options.min_new_tokens = 4;
      order.options.sampling.logit_bias = {{3, 1.5f}};
    }
    if (i % 2 == 1) {
      order.options.schedule = draft_schedule::adaptive;
    }
    if (i % 4 == 2) {
      order.options.num_draft_tokens = Config.prediction.depth / 2;
    }
    all.push_back(order);
  }
  generator<Config, cpu, S> one(context, model);
  for (auto& order : all) {
    order.alone = record(one, order.prompt, order.options);
  }
  return all;
}

template <model_config Config, class S>
void submit(batch_generator<Config, cpu, S>& batch, ordered<Config, S>& order) {
  auto options = order.options;
  options.on_token = [&order](const written_token& token) {
    order.together.streamed.push_back(token);
    return true;
  };
  options.on_logits = [&order](index_t position, vector_view<const accumulate_t<S>, cpu> logits) {
    order.together.positions.push_back(position);
    order.together.logits.insert(
        order.together.logits.end(), logits.data(), logits.data() + logits.extent(0));
  };
  order.number = batch.submit(order.prompt, options);
}

template <model_config Config, class S>
void check_result(batch_generator<Config, cpu, S>& batch, ordered<Config, S>& order) {
  order.together.result = batch.take(order.number);
  CHECK(same_text(order.together, order.alone));
  CHECK(order.together.result.end == order.alone.result.end);
  CHECK(same_bits(order.together.result.log_probabilities, order.alone.result.log_probabilities));
  CHECK(order.together.result.best_tokens == order.alone.result.best_tokens);
  CHECK(same_bits(order.together.result.best_log_probabilities,
                  order.alone.result.best_log_probabilities));
  if (order.options.schedule == draft_schedule::constant) {
    CHECK(order.together.result.forward_passes == order.alone.result.forward_passes);
    CHECK(order.together.result.accepted == order.alone.result.accepted);
  }
}

template <model_config Config, class S = float>
void check_together() {
  INFO(std::string(name_of(Config.prediction.kind)));
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{1});
  if constexpr (!std::is_same_v<S, bf16>) {
    make_perfect(model);
    add_noise(model, 0.3);
  }
  for (const index_t slots : {1, 3, 16}) {
    CAPTURE(slots);
    auto all = orders<Config, S>(context, model);
    batch_generator<Config, cpu, S> batch(context, model, slots);
    // Some are there from the beginning, the others arrive one by one.
    std::size_t arrived = 0;
    while (arrived < 4) {
      submit(batch, all[arrived++]);
    }
    for (bool going = true; going;) {
      going = batch.run_cycle();
      if (arrived < all.size()) {
        submit(batch, all[arrived++]);
        going = true;
      }
    }
    for (auto& order : all) {
      check_result(batch, order);
    }
    CHECK(batch.waiting() == 0);
  }
}

constexpr auto config = spoken_config(head_kind::sequential, 3);

struct office {
  cpu_context context{{.threads = 1}};
  language_model<config, cpu> model{context, seed{3}};
  batch_generator<config, cpu> batch{context, model, 2};
  generator<config, cpu> alone{context, model};

  tokens_type expected(const tokens_type& prompt, index_t count) {
    return alone.generate(prompt, options_of<float>(decode_mode::plain, count)).tokens;
  }
};

}  // namespace

TEST_CASE("each of many sequences gets what it would get alone") {
  check_together<spoken_config(head_kind::none, 0)>();
  check_together<spoken_config(head_kind::sequential, 3)>();
  check_together<flipped_spoken_config(head_kind::recurrent, 2), bf16>();
  check_together<flipped_spoken_config(head_kind::parallel, 2)>();
  check_together<spoken_config(head_kind::independent, 2)>();
}

TEST_CASE("a long prompt is read in pieces while others write") {
  office o;
  const auto shorter = random_tokens(3, config.vocab_size, 1);
  const auto longer = random_tokens(140, config.vocab_size, 2);
  const auto first = o.batch.submit(shorter, options_of<float>(decode_mode::plain, 60));
  o.batch.run_cycle();
  const auto second = o.batch.submit(longer, options_of<float>(decode_mode::plain, 4));
  index_t written = static_cast<index_t>(o.batch.result(first).tokens.size());
  index_t pieces = 0;
  CHECK(o.batch.state(second) == request_state::waiting);
  do {
    o.batch.run_cycle();
    ++pieces;
    CHECK(static_cast<index_t>(o.batch.result(first).tokens.size()) == ++written);
  } while (o.batch.state(second) == request_state::reading);
  CHECK(pieces == 3);  // of 64, 64 and 11 tokens
  o.batch.run();
  CHECK(o.batch.take(first).tokens == o.expected(shorter, 60));
  CHECK(o.batch.take(second).tokens == o.expected(longer, 4));
}

TEST_CASE("the request that has waited longest takes the place of one that ends") {
  office o;
  std::vector<index_t> ends;
  for (index_t i = 0; i < 5; ++i) {
    auto options = options_of<float>(decode_mode::plain, i == 0 ? 50 : 5);
    options.on_token = [&ends, i, left = options.max_new_tokens](token_t) mutable {
      if (--left == 0) {
        ends.push_back(i);
      }
      return true;
    };
    CHECK(o.batch.submit(random_tokens(4, config.vocab_size, 7), options) == i);
  }
  o.batch.run_cycle();
  CHECK(o.batch.waiting() == 3);
  o.batch.run();
  CHECK(ends == std::vector<index_t>{1, 2, 3, 4, 0});
  for (index_t i = 0; i < 5; ++i) {
    CHECK(o.batch.state(i) == request_state::done);
  }
}

TEST_CASE("a request may be cancelled wherever it stands") {
  office o;
  const auto prompt = random_tokens(100, config.vocab_size, 1);
  const auto options = options_of<float>(decode_mode::plain, 20);
  const auto writing = o.batch.submit(random_tokens(2, config.vocab_size, 1), options);
  o.batch.run_cycle();
  o.batch.run_cycle();
  const auto reading = o.batch.submit(prompt, options);
  const auto waiting = o.batch.submit(prompt, options);
  o.batch.run_cycle();
  CHECK(o.batch.state(writing) == request_state::writing);
  CHECK(o.batch.state(reading) == request_state::reading);
  CHECK(o.batch.state(waiting) == request_state::waiting);
  const tokens_type so_far = o.batch.result(writing).tokens;
  CHECK(so_far.size() >= 2);
  for (const auto number : {writing, reading, waiting}) {
    o.batch.cancel(number);
    o.batch.cancel(number);
  }
  CHECK_FALSE(o.batch.run_cycle());
  for (const auto number : {writing, reading, waiting}) {
    CHECK(o.batch.state(number) == request_state::done);
    CHECK(o.batch.result(number).end == end_reason::cancelled);
  }
  CHECK(o.batch.take(writing).tokens == so_far);
  CHECK(o.batch.take(reading).tokens.empty());
  // Their slots are as good as new.
  const auto again = o.batch.submit(prompt, options);
  o.batch.run();
  CHECK(o.batch.take(again).tokens == o.expected(prompt, 20));
  CHECK(o.batch.take(waiting).tokens.empty());
}

TEST_CASE("callbacks may submit and cancel, but run nothing") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  auto options = options_of<float>(decode_mode::plain, 6);
  index_t other = -1;
  options.on_token = [&](token_t) {
    CHECK(fails_with("batch_generator: called from one of its own callbacks",
                     [&] { o.batch.run_cycle(); }));
    if (other < 0) {
      other = o.batch.submit(prompt, options_of<float>(decode_mode::plain, 3));
    }
    return true;
  };
  const auto first = o.batch.submit(prompt, options);
  const auto cancelled = o.batch.submit(prompt, options_of<float>(decode_mode::plain, 100));
  auto watched = options_of<float>(decode_mode::plain, 4);
  watched.on_token = [&](token_t) {
    o.batch.cancel(cancelled);
    return true;
  };
  const auto last = o.batch.submit(prompt, watched);
  o.batch.run();
  CHECK(o.batch.take(first).tokens == o.expected(prompt, 6));
  CHECK(o.batch.take(other).tokens == o.expected(prompt, 3));
  CHECK(o.batch.take(last).tokens == o.expected(prompt, 4));
  CHECK(o.batch.take(cancelled).end == end_reason::cancelled);
}

TEST_CASE("a request that a callback has cancelled is told nothing more") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  for (const bool in_logits : {false, true}) {
    for (const index_t at : {1, 5}) {  // of 6 tokens, the last one included
      CAPTURE(in_logits);
      CAPTURE(at);
      auto options = options_of<float>(decode_mode::speculative, 6);
      options.log_probabilities = true;
      index_t number = -1, tokens = 0, rows = 0;
      options.on_logits = [&](index_t, vector_view<const float, cpu>) {
        if (rows++ == at && in_logits) {
          o.batch.cancel(number);
        }
      };
      options.on_token = [&](token_t) {
        if (tokens++ == at && !in_logits) {
          o.batch.cancel(number);
        }
        return true;
      };
      number = o.batch.submit(prompt, options);
      o.batch.run();
      const auto result = o.batch.take(number);
      CHECK(result.end == end_reason::cancelled);
      CHECK(rows == at + 1);
      CHECK(tokens == (in_logits ? at : at + 1));
      CHECK(result.tokens == o.expected(prompt, tokens));
      CHECK(result.log_probabilities.size() == result.tokens.size());
    }
  }
}

TEST_CASE("a request that has come to its end is not cancelled any more") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  const auto first = o.batch.submit(prompt, options_of<float>(decode_mode::plain, 4));
  auto options = options_of<float>(decode_mode::plain, 4);
  options.on_token = [&, count = 0](token_t) mutable {
    if (++count == 4) {  // the other one has written its last token in this very cycle
      o.batch.cancel(first);
    }
    return true;
  };
  o.batch.submit(prompt, options);
  o.batch.run();
  CHECK(o.batch.result(first).tokens.size() == 4);
  CHECK(o.batch.result(first).end == end_reason::length);
}

TEST_CASE("what a callback throws ends its request alone") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  auto options = options_of<float>(decode_mode::speculative, 40);
  options.on_token = [count = 0](token_t) mutable {
    if (++count == 7) {
      throw std::runtime_error("enough");
    }
    return true;
  };
  const auto failing = o.batch.submit(prompt, options);
  const auto fine = o.batch.submit(prompt, options_of<float>(decode_mode::speculative, 40));
  o.batch.run();
  CHECK(o.batch.take(fine).tokens == o.expected(prompt, 40));
  CHECK(o.batch.state(failing) == request_state::done);
  CHECK_THROWS_WITH_AS(o.batch.result(failing), "enough", std::runtime_error);
  CHECK_THROWS_WITH_AS(o.batch.take(failing), "enough", std::runtime_error);
  CHECK(fails_with("expected the number of a request", [&] { o.batch.state(failing); }));
}

TEST_CASE("wrong requests and numbers are refused, and change nothing") {
  office o;
  const auto options = options_of<float>(decode_mode::plain, 6);
  CHECK(fails_with("generate: the prompt is empty", [&] { o.batch.submit({}, options); }));
  CHECK(fails_with("expected the number of a request that was submitted and not taken, got 0",
                   [&] { o.batch.cancel(0); }));
  const auto number = o.batch.submit(random_tokens(5, config.vocab_size, 1), options);
  CHECK(number == 0);
  CHECK(fails_with("batch_generator::take: request 0 is not done", [&] { o.batch.take(0); }));
  o.batch.run();
  CHECK(o.batch.take(0).tokens.size() == 6);
  CHECK_FALSE(o.batch.run_cycle());
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{1});
  using batch = batch_generator<config, cpu>;
  CHECK(
      fails_with("decoder: expected 1 to 64 slots, got 0", [&] { batch none(context, model, 0); }));
  CHECK(fails_with("got 65", [&] { batch many(context, model, 65); }));
}

}  // namespace mtp::test::batch_generator_cases
