// Makes the models that decoding is measured with. Each file of models that includes this is one
// size and one type: it compiles the library for all head kinds.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "decoding.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/model/quantized_model.hpp"

namespace mtp::bench {

/// 1.9 million parameters, on bytes: 7 MB as f32, which stay in the cache of most processors.
constexpr model_config in_cache(head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 192,
          .num_hidden_layers = 4,
          .max_position_embeddings = 4864,
          .attention = {.num_attention_heads = 3},
          .feed_forward = {.intermediate_size = 512},
          .prediction = {.kind = head, .depth = depth}};
}

/// 58 million parameters, on words; a pass reads 42 million of them, 168 MB as f32.
constexpr model_config beyond_cache(head_kind head, int depth) {
  return {.vocab_size = 32000,
          .hidden_size = 512,
          .num_hidden_layers = 8,
          .max_position_embeddings = 4864,
          .attention = {.num_attention_heads = 8},
          .feed_forward = {.intermediate_size = 1408},
          .prediction = {.kind = head, .depth = depth}};
}

inline std::vector<token_t> random_prompt(index_t count, index_t vocabulary, std::uint64_t stream) {
  const random_stream random(seed{3}, stream);
  std::vector<token_t> tokens;
  for (index_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocabulary))));
  }
  return tokens;
}

/// The trunk always says token 0, because its logits are all zero and ties go to the lowest. Drafts
/// are the same where their logits are zero, too, and never where only that of token 0 is: one of
/// the others is higher.
template <model_config Config, scalar S>
void set_drafts(language_model<Config, cpu, S>& model, draft_fate fate) {
  const auto values = model.values();
  const auto& at = model.layout;
  constexpr bool has_own_outputs = Config.prediction.kind == head_kind::independent;
  const auto clear = [&](const parameter& p, index_t rows) {
    for (index_t n = 0; n < rows; ++n) {
      for (index_t k = 0; k < p.inputs; ++k) {
        values.matrix(p)(n, k) = S{0};
      }
    }
  };
  const bool accepted = fate == draft_fate::accepted;
  clear(at.trunk.output, accepted || has_own_outputs ? Config.vocab_size : 1);
  if constexpr (has_own_outputs) {
    for (const auto& depth : at.head.depth) {
      clear(depth.output, accepted ? Config.vocab_size : 1);
    }
  } else if (!accepted) {
    for (index_t c = 0; c < Config.hidden_size; ++c) {
      values.vector(at.trunk.norm)(c) = S{0};  // the depths have norms of their own
    }
  }
}

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <model_config Config, scalar S>
class batch_writing : public writing {
 public:
  batch_writing(cpu_context& context,
                const inference_model<Config, cpu, S>& model,
                const writing_options& options)
      : generator_(context, model, options.sequences) {
    generate_options<S, cpu> wanted;
    wanted.mode = options.drafts > 0 ? decode_mode::speculative : decode_mode::plain;
    wanted.num_draft_tokens = std::min<index_t>(options.drafts, Config.prediction.depth);
    wanted.schedule = options.adaptive ? draft_schedule::adaptive : draft_schedule::constant;
    wanted.max_new_tokens = Config.max_position_embeddings;
    for (index_t s = 0; s < options.sequences; ++s) {
      requests_.push_back(generator_.submit(
          random_prompt(options.context, Config.vocab_size, static_cast<std::uint64_t>(s)),
          wanted));
    }
    // Prompts are read in turns, so the first sequence is only a few tokens ahead of the last.
    while (fewest() == 0) {
      generator_.run_cycle();
    }
  }

  double go_on(index_t tokens) override {
    const index_t before = all(), wanted = fewest() + tokens;
    const auto start = std::chrono::steady_clock::now();
    while (fewest() < wanted) {
      check(generator_.run_cycle(), "a benchmark's sequence has ended: its context is full");
    }
    return static_cast<double>(all() - before) / seconds_since(start);
  }

  double acceptance() const override {
    double drafted = 0, accepted = 0;
    for (const index_t request : requests_) {
      const auto& result = generator_.result(request);
      for (std::size_t k = 0; k < result.drafted.size(); ++k) {
        drafted += static_cast<double>(result.drafted[k]);
        accepted += static_cast<double>(result.accepted[k]);
      }
    }
    return drafted > 0 ? accepted / drafted : 0;
  }

 private:
  index_t written(index_t request) const {
    return static_cast<index_t>(generator_.result(request).tokens.size());
  }
  index_t fewest() const {
    index_t least = written(requests_.front());
    for (const index_t request : requests_) {
      least = std::min(least, written(request));
    }
    return least;
  }
  index_t all() const {
    index_t sum = 0;
    for (const index_t request : requests_) {
      sum += written(request);
    }
    return sum;
  }

  batch_generator<Config, cpu, S> generator_;
  std::vector<index_t> requests_;
};

template <model_config Config, scalar S>
class decoder_passes : public row_passes {
 public:
  decoder_passes(cpu_context& context, const inference_model<Config, cpu, S>& model, index_t length)
      : one_(context, model), many_(context, model, most) {
    constexpr index_t step = decoder<Config, cpu, S>::max_step_rows;
    for (index_t slot = 0; slot < most; ++slot) {
      const auto prompt =
          random_prompt(length, Config.vocab_size, static_cast<std::uint64_t>(slot));
      many_.begin(slot, prompt, {}, 0, false);
      for (index_t first = 0; first < length - 1; first += step) {
        const index_t rows = std::min(step, length - 1 - first);
        many_.prefill(slot, length, first, rows, false);
        if (slot == 0) {
          one_.prefill(std::span(prompt).subspan(static_cast<std::size_t>(first),
                                                 static_cast<std::size_t>(rows)),
                       hidden_states::dropped);
        }
      }
    }
    rows_ = random_prompt(most, Config.vocab_size, 0);
  }

  double of_one_sequence(index_t M) override {
    const index_t length = one_.length();
    const auto start = std::chrono::steady_clock::now();
    one_.step(std::span(rows_).first(static_cast<std::size_t>(M)), hidden_states::dropped);
    const double seconds = seconds_since(start);
    one_.roll_back(length);
    return seconds;
  }

  double of_sequences(index_t M) override {
    steps_.clear();
    for (index_t i = 0; i < M; ++i) {
      steps_.push_back({.slot = (first_ + i) % most});  // all of them grow
    }
    first_ = (first_ + M) % most;
    many_.submit(steps_);
    many_.read([](const slot_step&, const step_outcome&) {});
    return many_.seconds().verify;
  }

 private:
  decoder<Config, cpu, S> one_;
  decoding_cycle<Config, cpu, S> many_;
  std::vector<token_t> rows_;
  std::vector<slot_step> steps_;
  index_t first_ = 0;
};

template <model_config Config, scalar S>
language_model<Config, cpu, S> make_language_model(cpu_context& context, draft_fate fate) {
  language_model<Config, cpu, S> model(context, seed{1});
  if constexpr (Config.prediction.drafts()) {
    set_drafts(model, fate);
  }
  return model;
}

/// How parameters lie in memory, and what a program calls that.
template <scalar S>
struct elements_as_they_are {
  using element = S;
  static constexpr const char* name = scalar_traits<S>::name;

  template <model_config Config>
  static auto make(cpu_context& context, draft_fate fate) {
    return make_language_model<Config, S>(context, fate);
  }
};
struct weights_in_8_bits {
  using element = bf16;  // of activations
  static constexpr const char* name = "int8";

  template <model_config Config>
  static auto make(cpu_context& context, draft_fate fate) {
    return quantize(context, make_language_model<Config, bf16>(context, fate));
  }
};

template <model_config Config, class Storage>
class made_model : public decoding_model {
 public:
  using S = typename Storage::element;

  made_model(draft_fate fate, int threads)
      : context_({.threads = threads}), model_(Storage::template make<Config>(context_, fate)) {}

  std::unique_ptr<writing> write(const writing_options& options) override {
    return std::make_unique<batch_writing<Config, S>>(context_, model_, options);
  }
  std::unique_ptr<row_passes> passes(index_t context) override {
    if constexpr (Config.prediction.drafts()) {
      return nullptr;
    } else {
      return std::make_unique<decoder_passes<Config, S>>(context_, model_, context);
    }
  }

 private:
  cpu_context context_;
  decltype(Storage::template make<Config>(std::declval<cpu_context&>(), draft_fate{})) model_;
};

template <model_config Config, class Storage>
bool add_model_of(const char* size, const std::vector<index_t>& contexts, index_t turn) {
  add_model({size,
             Storage::name,
             Config,
             contexts,
             turn,
             [](draft_fate fate, int threads) -> std::unique_ptr<decoding_model> {
               return std::make_unique<made_model<Config, Storage>>(fate, threads);
             }});
  return true;
}

/// A model with Config(kind, depth) for passes over rows, and one for each of these kinds of head.
template <auto Config, class Storage, head_kind... Kinds>
bool add_models(const char* size, const std::vector<index_t>& contexts, index_t turn) {
  add_model_of<Config(head_kind::shared_logit, row_passes::most - 1), Storage>(
      size, contexts, turn);
  return (add_model_of<Config(Kinds, 4), Storage>(size, contexts, turn) && ...);
}

/// The same for each kind of head that drafts.
template <auto Config, scalar S>
bool add_all(const char* size, const std::vector<index_t>& contexts, index_t turn) {
  return add_models<Config,
                    elements_as_they_are<S>,
                    head_kind::sequential,
                    head_kind::recurrent,
                    head_kind::parallel,
                    head_kind::independent>(size, contexts, turn);
}

}  // namespace mtp::bench
