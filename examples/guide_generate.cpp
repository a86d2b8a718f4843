// Pages 5 to 7 of docs/guide: generate and stream, score a text, evaluate on another file.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.hidden_size = 64,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 256,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 176},
                                   .prediction = {.kind = mtp::head_kind::parallel, .depth = 2}};

using model_type = mtp::language_model<config, mtp::cpu>;

constexpr std::string_view verse =
    "A model that reads a line and guesses what comes next\n"
    "may guess a word or two ahead and check them with the text.\n"
    "What it has guessed it need not read again to know it right,\n"
    "and so it writes two words in the time of one tonight.\n\n";

std::vector<std::uint8_t> bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<mtp::token_t> tokens_of(std::string_view text) {
  std::vector<mtp::token_t> tokens;
  for (const char byte : text) {
    tokens.push_back(static_cast<unsigned char>(byte));
  }
  return tokens;
}

// Page 7: nats per byte of the next byte, over all whole windows of a text.
double nats_per_byte(mtp::context<mtp::cpu>& context,
                     const model_type& model,
                     const std::vector<std::uint8_t>& text) {
  constexpr mtp::index_t length = 64;
  const mtp::dataset<> data(
      text,
      {},
      {.window = length + 1 + config.prediction.depth, .validation_share = 1, .stride = length});
  return mtp::evaluate(context, model, data).depths[0].loss;
}

int main() {
  mtp::context<mtp::cpu> context;
  model_type model(context, mtp::seed{42});
  using trainer_type = mtp::trainer<config, mtp::cpu>;
  std::vector<std::uint8_t> text;
  for (int i = 0; i < 40; ++i) {
    text.insert(text.end(), verse.begin(), verse.end());
  }
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(128)});
  trainer_type trainer(context,
                       model,
                       data,
                       {.batch = 4,
                        .length = 128,
                        .learning_rate = {.peak = 5e-3, .warmup_steps = 10, .total_steps = 120}});
  while (trainer.state().step < 120) {
    trainer.step();
  }

  // Page 5: each byte is printed as soon as it is confirmed.
  mtp::generator<config, mtp::cpu> generator(context, model);
  const auto prompt = tokens_of("A model ");
  const auto stop = tokens_of(".\n");
  const auto& result = generator.generate(
      prompt, {.max_new_tokens = 110, .stop = {stop}, .on_token = [](mtp::token_t token) {
                 std::putchar(token);
                 std::fflush(stdout);
                 return true;  // false ends the text
               }});
  std::printf("\n%zu bytes, %.2f per pass\n", result.tokens.size(), result.tokens_per_forward());

  // The same text without drafts.
  const std::vector<mtp::token_t> written = result.tokens;
  generator.generate(prompt,
                     {.mode = mtp::decode_mode::plain, .max_new_tokens = 110, .stop = {stop}});
  const bool equal = result.tokens == written;

  // Text that is drawn: a seed gives one text, with drafts and without.
  mtp::generate_options<float, mtp::cpu> options{.max_new_tokens = 110,
                                                 .stop_tokens = {'.'},
                                                 .sampling = {.temperature = 1.5,
                                                              .top_k = 40,
                                                              .top_p = 0.98,
                                                              .repetition_penalty = 1.05,
                                                              .seed = mtp::seed{7}},
                                                 .log_probabilities = true};
  const auto drawn = generator.generate(prompt, options);  // a copy
  double nats = 0;
  for (const double each : drawn.log_probabilities) {
    nats -= each;
  }
  std::printf("%s\n%.2f nats per byte, %.2f bytes per pass\n",
              std::string(drawn.tokens.begin(), drawn.tokens.end()).c_str(),
              nats / static_cast<double>(drawn.tokens.size()),
              drawn.tokens_per_forward());
  options.mode = mtp::decode_mode::plain;
  const bool equal_draws = generator.generate(prompt, options).tokens == drawn.tokens;

  // Many texts at once: six drawings of one prompt share two slots and the prompt's caches.
  mtp::batch_generator<config, mtp::cpu> batch(context, model, 2);
  options.mode = mtp::decode_mode::speculative;
  options.reuse_prefix = true;
  for (std::uint32_t sequence = 0; sequence < 6; ++sequence) {
    options.sampling.sequence = sequence;
    batch.submit(prompt, options);  // waits until a slot is free
  }
  batch.run();
  const bool equal_in_company = batch.take(0).tokens == drawn.tokens;

  // Page 6.
  mtp::scorer<config, mtp::cpu> scorer(context, model, 2);
  const auto english = tokens_of("a word or two ahead");
  const auto noise = tokens_of("daeha owt ro drow a");
  const auto& scored = scorer.score(std::vector<std::span<const mtp::token_t>>{english, noise});
  const double likely = scored[0].sum, unlikely = scored[1].sum;
  std::printf("%.1f nats for words, %.1f for noise\n", likely, unlikely);
  std::printf("perplexity %.2f and %.2f, of both %.2f\n",
              scored[0].perplexity(),
              scored[1].perplexity(),
              mtp::perplexity(scored));

  // Byte by byte: what stands there, and the two likeliest.
  for (std::size_t i = 1; i < 8; ++i) {
    std::printf("%c %6.2f", english[i], scored[0].log_probabilities[i]);
    for (std::size_t j = 2 * i; j < 2 * i + 2; ++j) {
      std::printf("   %c %6.2f", scored[0].best_tokens[j], scored[0].best_log_probabilities[j]);
    }
    std::printf("\n");
  }

  // A text that is longer than the context, and the mean of its hidden states.
  const std::vector<mtp::token_t> all(text.begin(), text.end());
  std::vector<double> mean(config.hidden_size);
  mtp::score_options<float, mtp::cpu> in_windows{.stride = 128};
  in_windows.on_hidden = [&](const auto& piece) {
    for (mtp::index_t m = 0; m < piece.normed.extent(0); ++m) {
      for (std::size_t c = 0; c < mean.size(); ++c) {
        mean[c] += static_cast<double>(piece.normed(m, static_cast<mtp::index_t>(c))) /
                   static_cast<double>(all.size());
      }
    }
  };
  const auto& whole = scorer.score(all, in_windows);
  std::printf("%lld bytes, perplexity %.3f; means from %.2f to %.2f\n",
              static_cast<long long>(whole.counted),
              whole.perplexity(),
              *std::min_element(mean.begin(), mean.end()),
              *std::max_element(mean.begin(), mean.end()));

  // Page 7.
  const double learnt = nats_per_byte(context, model, text);
  const double other = nats_per_byte(context, model, bytes_of("docs/mtp.md"));
  std::printf("%.3f nats per byte on the text it learnt, %.3f on a file\n", learnt, other);
  return equal && equal_draws && equal_in_company && likely > unlikely && learnt < other ? 0 : 1;
}
