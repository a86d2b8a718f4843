// Sequential modules that all read the trunk's hidden state: against a model in plain loops, and
// decoding to the bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "../../examples/plain_sequential/model.hpp"
#include "mtp/decode/batch_generator.hpp"
#include "mtp/loss/model_loss.hpp"
#include "support/decoding.hpp"

// Outside of mtp, whose functions have the same names.
namespace plain {

/// All depths of plain loops over N positions, each behind the trunk.
inline model_pass forward_all(const model& w, const text& tokens, index N) {
  model_pass all;
  forward_trunk(all, w, tokens, N);
  for (index k = 1; k <= D; ++k) {
    model_pass own;
    own[k - 1].hidden = all[0].hidden;
    forward_module(own, w, k, tokens, N);
    all[k] = own[k];
  }
  return all;
}

/// The loss of N + 1 + D tokens with its gradient, which it adds to g.
inline double loss_behind_trunk(model& g, const model& w, const text& tokens) {
  const index N = tokens.size() - 1 - D;
  const model_pass a = forward_all(w, tokens, N);
  double loss = 0;
  numbers of_trunk(N * C);  // the gradient of the trunk's hidden state, by all depths
  const auto embedding_gradient = [&](const numbers& d, index k) {
    for (index i = 0; i < N * C; ++i) {
      g.embedding[tokens[i / C + k] * C + i % C] += d[i];
    }
  };
  for (index k = 0; k <= D; ++k) {
    const double weight = (k == 0 ? 1 : lambda / D) / static_cast<double>(N);
    numbers d = linear(a[k].hidden, w.output, C);  // logits, then their gradient
    for (index n = 0; n < N; ++n) {
      double total = 0;
      const index target = tokens[n + 1 + k];
      for (index v = 0; v < V; ++v) {
        total += std::exp(d[n * V + v]);
      }
      loss += weight * (std::log(total) - d[n * V + target]);
      for (index v = 0; v < V; ++v) {
        d[n * V + v] = weight * (std::exp(d[n * V + v]) / total - (v == target ? 1 : 0));
      }
    }
    const numbers dhidden = linear_backward(g.output, d, a[k].hidden, w.output, C);
    if (k == 0) {
      of_trunk = sum(of_trunk, dhidden);
      continue;
    }
    const mtp_module& m = w.modules[k - 1];
    mtp_module& gm = g.modules[k - 1];
    numbers dx = rms_norm_backward(gm.norm, dhidden, a[k].stream, m.norm);
    dx = backward(gm.transformer, a[k].blocks[0], m.transformer, dx);
    dx = linear_backward(gm.projection, dx, a[k].joined, m.projection, 2 * C);
    numbers dh, de;
    for (index i = 0; i < 2 * N * C; ++i) {
      (i % (2 * C) < C ? dh : de).push_back(dx[i]);
    }
    of_trunk = sum(of_trunk, rms_norm_backward(gm.hidden_norm, dh, a[0].hidden, m.hidden_norm));
    embedding_gradient(rms_norm_backward(gm.embedding_norm, de, a[k].embedded, m.embedding_norm),
                       k);
  }
  numbers dx = rms_norm_backward(g.norm, of_trunk, a[0].stream, w.norm);
  for (index l = L; l-- > 0;) {
    dx = backward(g.blocks[l], a[0].blocks[l], w.blocks[l], dx);
  }
  embedding_gradient(dx, 0);
  return loss;
}

}  // namespace plain

namespace mtp::test::model_target_hidden_cases {

namespace {

using tokens_type = std::vector<token_t>;

// ---- Against plain loops ------------------------------------------------------------------------

constexpr model_config plain_config{
    .vocab_size = plain::V,
    .hidden_size = plain::C,
    .num_hidden_layers = plain::L,
    .max_position_embeddings = 96,
    .attention = {.num_attention_heads = plain::H},
    .feed_forward = {.intermediate_size = plain::F},
    .prediction = {
        .kind = head_kind::sequential, .depth = plain::D, .chain = chain_input::target_hidden}};
using plain_model_type = language_model<plain_config, cpu, double>;
constexpr index_t T = 24;

/// visit(name, plain numbers, element) for each parameter; element(i) is the library's i-th.
template <class Visit>
void visit_both(plain::model& plain_model, parameter_array<double, cpu> array, const Visit& visit) {
  const auto all = plain_model.all();
  std::size_t next = 0;
  plain_model_type::layout.visit([&](const std::string& name, const parameter& p) {
    visit(name, *all.at(next++), [&](std::size_t i) -> double& {
      const auto place = static_cast<index_t>(i);
      return p.is_vector() ? array.vector(p)(place)
                           : array.matrix(p)(place / p.inputs, place % p.inputs);
    });
  });
}

/// The same model twice.
struct both_models {
  cpu_context context{{.threads = 1}};
  plain_model_type model{context, seed{4}};
  plain::model reference;

  both_models() {
    add_noise(model, 0.4);
    visit_both(reference, model.values(), [](const auto&, auto& ours, const auto& element) {
      for (std::size_t i = 0; i < ours.size(); ++i) {
        ours[i] = element(i);
      }
    });
  }
};

plain::text some_text(std::size_t count) {
  plain::text text;
  for (std::size_t i = 0; i < count; ++i) {
    text.push_back((i * i * 5 + i / 3) % plain::V);
  }
  return text;
}
tokens_type as_tokens(const plain::text& text) {
  return {text.begin(), text.end()};
}

// ---- Decoding -----------------------------------------------------------------------------------

constexpr model_config decoding_config(bool flipped) {
  model_config config = flipped ? flipped_spoken_config(head_kind::sequential, 3, 96)
                                : spoken_config(head_kind::sequential, 3, 96);
  config.prediction.chain = chain_input::target_hidden;
  return config;
}

}  // namespace

TEST_CASE("loss and gradients of modules that read the trunk are those of plain loops") {
  both_models both;
  const plain::text window = some_text(T + 1 + plain::D);
  const tokens_type tokens = as_tokens(window);
  model_loss<plain_config, cpu, double> loss(both.context, 1, T);
  buffer<double, cpu> gradients(plain_model_type::layout.storage);
  auto options = default_loss_options<plain_config>();
  options.lambda = plain::lambda;
  const parameter_array<double, cpu> array(gradients.data(), gradients.count());
  const auto report =
      loss.with_gradients(both.context, both.model, array, {tokens, {}, {}, 1, T}, options);
  plain::model expected;
  const double total = plain::loss_behind_trunk(expected, both.reference, window);
  // As in examples/plain_sequential: fewer than 2000 roundings of 2^-53, times 10 where sums
  // cancel.
  constexpr double bound = 2.2e-12;
  CHECK(std::abs(total - report.total) <= bound * total);
  visit_both(expected, array, [&](const std::string& name, const auto& ours, const auto& element) {
    CAPTURE(name);
    double largest = 0, error = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      largest = std::max(largest, std::abs(ours[i]));
      error = std::max(error, std::abs(ours[i] - element(i)));
    }
    CHECK(largest > 0);
    CHECK(error <= bound * largest);
  });
}

TEST_CASE("drafts of modules that read the trunk are those of plain loops") {
  both_models both;
  const plain::text whole = some_text(40);
  index_t compared = 0;
  for (const std::size_t count : {2, 3, 17, 40}) {
    const plain::text text(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(count));
    plain::text proposed = text;
    for (plain::index k = 1; k <= plain::D; ++k) {
      plain::model_pass own, trunk;
      plain::forward_trunk(trunk, both.reference, proposed, count - 1);
      own[k - 1].hidden = trunk[0].hidden;
      plain::forward_module(own, both.reference, k, proposed, count - 1);
      proposed.push_back(plain::predict(both.reference, own[k].hidden, count - 2));
    }
    decoder<plain_config, cpu, double> sequence(both.context, both.model);
    tokens_type tokens = as_tokens(text);
    sequence.prefill({tokens.data(), count - 1}, hidden_states::kept);
    tokens.resize(count + plain::D);
    draft_next(sequence.drafter(),
               both.context,
               both.model,
               text_of(tokens, static_cast<index_t>(count)),
               plain::D);
    CHECK(tokens == as_tokens(proposed));
    ++compared;
  }
  CHECK(compared == 4);
}

TEST_CASE("modules that read the trunk draft, and the text is that of plain decoding") {
  const auto check = []<model_config Config>(noisy_writer<Config>& w) {
    const tokens_type prompt = random_tokens(7, 19, 3);
    for (const double temperature : {0.0, 1.0}) {
      generate_options<float, cpu> options{.max_new_tokens = 90,
                                           .sampling = {.temperature = temperature}};
      options.mode = decode_mode::plain;
      const auto plain = record(w.generator, prompt, options);
      options.mode = decode_mode::speculative;
      for (const auto schedule : {draft_schedule::constant, draft_schedule::adaptive}) {
        options.schedule = schedule;
        CHECK(same_text(record(w.generator, prompt, options), plain));
      }
      options.schedule = draft_schedule::constant;
      const auto alone = w.generator.generate(prompt, options);
      CHECK(alone.accepted[2] > 0);
      batch_generator<Config, cpu> batch(w.context, w.model, 2);
      for (int i = 0; i < 3; ++i) {
        batch.submit(prompt, options);
      }
      batch.run();
      for (index_t i = 0; i < 3; ++i) {
        const auto together = batch.take(i);
        CHECK(together.tokens == alone.tokens);
        CHECK(together.accepted == alone.accepted);
      }
    }
  };
  noisy_writer<decoding_config(false)> first(0.1, 0.3);
  check(first);
  noisy_writer<decoding_config(true)> second(0.1, 0.3);
  check(second);
}

TEST_CASE("caches of modules that read the trunk are those of a fresh prompt") {
  noisy_writer<decoding_config(false)> w(0.1, 0.3);
  const tokens_type prompt = random_tokens(12, 19, 3);
  generate_options<float, cpu> options{.max_new_tokens = 80};
  std::vector<bool> drafted;
  options.on_token = [&](const written_token& token) {
    drafted.push_back(token.drafted);
    return true;
  };
  const tokens_type tokens = w.generator.generate(prompt, options).tokens;
  const std::vector<bool> expected = drafted;
  index_t compared = 0;
  for (std::size_t n = 1; n < tokens.size(); ++n) {
    if (expected[n - 1]) {
      continue;  // in the middle of a cycle
    }
    // Behind the last token of a cycle a fresh generator makes the same drafts.
    tokens_type text = prompt;
    text.insert(text.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n));
    drafted.clear();
    mtp::generator<decoding_config(false), cpu> fresh(w.context, w.model);
    auto rest = options;
    rest.max_new_tokens = static_cast<index_t>(tokens.size() - n);
    fresh.generate(text, rest);
    CHECK(drafted ==
          std::vector<bool>(expected.begin() + static_cast<std::ptrdiff_t>(n), expected.end()));
    ++compared;
  }
  CHECK(compared > 10);
  CHECK(std::count(expected.begin(), expected.end(), true) > 10);
}

}  // namespace mtp::test::model_target_hidden_cases
