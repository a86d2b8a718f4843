// Models whose drafts are as good as a test wants, and records of what generation did.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/decode/generate.hpp"
#include "support/compare.hpp"
#include "support/text.hpp"

namespace mtp::test {

/// V = 19, C = 12, E = 6, F = 13: multiples of nothing.
constexpr model_config spoken_config(head_kind head, int depth, int positions = 144) {
  return {.vocab_size = 19,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .max_position_embeddings = positions,
          .attention = {.num_attention_heads = 2},
          .feed_forward = {.intermediate_size = 13},
          .prediction = {.kind = head, .depth = depth}};
}

/// The same with every option the other way, and grouped heads with H E = 16, which is not C.
constexpr model_config flipped_spoken_config(head_kind head, int depth, int positions = 144) {
  model_config config = spoken_config(head, depth, positions);
  config.attention.num_attention_heads = 4;
  config.attention.num_key_value_heads = 2;
  config.attention.head_dim = 4;
  config.tie_word_embeddings = true;
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.prediction.concat = concat_order::embedding_first;
  config.prediction.hidden_tap = norm_tap::pre_norm;
  config.prediction.recycle_tap = norm_tap::pre_norm;
  config.prediction.output_norm = output_norm_kind::shared;
  return config;
}

inline std::vector<token_t> random_tokens(index_t count, int vocabulary, std::uint64_t stream) {
  const random_stream random(seed{31}, stream);
  std::vector<token_t> tokens;
  for (index_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocabulary))));
  }
  return tokens;
}

/// Adds noise to every element of one parameter; `deviation` is relative to a fresh matrix.
template <model_config Config, class S>
void add_noise(language_model<Config, cpu, S>& model,
               const parameter& p,
               double deviation,
               std::uint64_t stream) {
  const random_stream random(seed{7}, stream);
  const auto values = model.values();
  for (index_t n = 0; n < p.outputs; ++n) {
    if (p.is_vector()) {
      values.vector(p)(n) +=
          static_cast<S>(deviation * random.normal(static_cast<std::uint64_t>(n)));
    }
    for (index_t k = 0; k < p.inputs; ++k) {
      const auto at = static_cast<std::uint64_t>(n * p.inputs + k);
      values.matrix(p)(n, k) +=
          static_cast<S>(deviation / std::sqrt(static_cast<double>(p.inputs)) * random.normal(at));
    }
  }
}

/// To every parameter of a model, or of its head alone.
template <model_config Config, class S>
void add_noise(language_model<Config, cpu, S>& model, double deviation, std::uint64_t stream = 0) {
  model.layout.visit(
      [&](const std::string&, const parameter& p) { add_noise(model, p, deviation, stream++); });
}
template <model_config Config, class S>
void add_head_noise(language_model<Config, cpu, S>& model, double deviation, std::uint64_t stream) {
  model.layout.head.visit(
      [&](const std::string&, const parameter& p) { add_noise(model, p, deviation, stream++); });
}

template <model_config Config, class S>
void fill(language_model<Config, cpu, S>& model, double value) {
  model.layout.visit([&](const std::string&, const parameter& p) {
    for (index_t n = 0; n < p.outputs; ++n) {
      if (p.is_vector()) {
        model.values().vector(p)(n) = static_cast<S>(value);
      }
      for (index_t k = 0; k < p.inputs; ++k) {
        model.values().matrix(p)(n, k) = static_cast<S>(value);
      }
    }
  });
}

/// Makes the next token a fixed permutation of the current one, and every draft accepted. Blocks
/// add nothing, so the stream is the embedding of the token. Returns the permutation:
///   one cycle of V, where the output matrix is free to be permuted embeddings;
///   pairs, where it must be the embeddings: those of a pair differ by the signs of some columns,
///     which the last norm flips (the norms of parallel heads flip for odd distances);
///   the identity, where parallel heads share both matrix and norm.
template <model_config Config, class S>
std::vector<token_t> make_perfect(language_model<Config, cpu, S>& model) {
  constexpr index_t V = Config.vocab_size, C = Config.hidden_size;
  constexpr bool cycles =
      !Config.tie_word_embeddings && Config.prediction.kind != head_kind::parallel;
  constexpr bool pairs = !cycles && !(Config.prediction.kind == head_kind::parallel &&
                                      Config.prediction.output_norm == output_norm_kind::shared);
  const auto values = model.values();
  const auto& at = model.layout;
  at.visit([&](const std::string&, const parameter& p) {
    for (index_t i = 0; p.is_vector() && i < p.outputs; ++i) {
      values.vector(p)(i) = static_cast<S>(p.role == parameter_role::norm ? 1 : 0);
    }
    for (index_t i = 0; p.role == parameter_role::residual && i < p.count(); ++i) {
      values.matrix(p)(i / p.inputs, i % p.inputs) = S{0};
    }
  });

  std::vector<token_t> next;
  for (token_t t = 0; t < V; ++t) {
    next.push_back(cycles ? (t + 7) % static_cast<token_t>(V) : (pairs && (t ^ 1) < V ? t ^ 1 : t));
  }
  const auto sign = [](index_t c) { return pairs && c < C / 2 ? S{-1} : S{1}; };
  const auto set_signs = [&](const parameter& norm) {
    for (index_t c = 0; norm.exists() && c < C; ++c) {
      values.vector(norm)(c) = sign(c);
    }
  };
  const auto embedding = values.matrix(at.trunk.embedding);  // rows of mean square 1
  const random_stream random(seed{11}, 0);
  for (index_t t = 0; t < V; ++t) {
    const bool second = pairs && t % 2 == 1;
    const bool alone = pairs && t % 2 == 0 && t + 1 == V;
    double squares = 0;
    for (index_t c = 0; c < C; ++c) {
      const double fresh = random.normal(static_cast<std::uint64_t>(t * C + c));
      embedding(t, c) = second                    ? sign(c) * embedding(t - 1, c)
                        : alone && sign(c) < S{0} ? S{0}
                                                  : static_cast<S>(fresh);
      squares += static_cast<double>(embedding(t, c)) * static_cast<double>(embedding(t, c));
    }
    for (index_t c = 0; c < C && !second; ++c) {
      embedding(t, c) *= static_cast<S>(std::sqrt(static_cast<double>(C) / squares));
    }
  }
  // Row next^power(t) of an output matrix = the embedding of t: what is nearest to it wins.
  const auto set_output = [&](const parameter& output, int power, bool with_signs) {
    for (token_t t = 0; t < V; ++t) {
      token_t to = t;
      for (int i = 0; i < power; ++i) {
        to = next[static_cast<std::size_t>(to)];
      }
      for (index_t c = 0; c < C; ++c) {
        values.matrix(output)(to, c) = (with_signs ? sign(c) : S{1}) * embedding(t, c);
      }
    }
  };
  set_signs(at.trunk.norm);
  if constexpr (!Config.tie_word_embeddings) {
    set_output(at.trunk.output, cycles ? 1 : 0, false);
  }

  if constexpr (Config.prediction.kind == head_kind::sequential ||
                Config.prediction.kind == head_kind::recurrent) {
    for (const auto& module : at.head.parts) {
      const index_t half = Config.prediction.concat == concat_order::hidden_first ? C : 0;
      for (index_t n = 0; n < C; ++n) {
        for (index_t k = 0; k < 2 * C; ++k) {
          values.matrix(module.projection)(n, k) = static_cast<S>(k == half + n ? 1 : 0);
        }
      }
      set_signs(module.output_norm);
    }
  } else if constexpr (Config.prediction.kind == head_kind::parallel) {
    for (std::size_t k = 1; k <= at.head.norm.size(); k += 1) {
      if (k % 2 == 0) {
        set_signs(at.head.norm[k - 1]);
      }
    }
  } else if constexpr (Config.prediction.kind == head_kind::independent) {
    for (std::size_t k = 1; k <= at.head.depth.size(); ++k) {
      const auto& depth = at.head.depth[k - 1];
      for (index_t i = 0; i < C * C; ++i) {
        values.matrix(depth.residual)(i / C, i % C) = S{0};
      }
      set_output(depth.output,
                 static_cast<int>(k) + 1,
                 Config.prediction.hidden_tap == norm_tap::post_norm);
    }
  }
  return next;
}

/// A model in which some drafts are accepted: a perfect one with noise in all parameters, and more
/// in those of the head.
template <model_config Config>
struct noisy_writer {
  cpu_context context{{.threads = 2}};
  language_model<Config, cpu> model{context, seed{1}};
  mtp::generator<Config, cpu> generator{context, model};

  noisy_writer(double noise, double head_noise) {
    make_perfect(model);
    add_noise(model, noise);
    add_head_noise(model, head_noise, 50);
  }
};

/// What one call of generate gave.
template <class S, int Depth>
struct transcript {
  generation<Depth> result;
  std::vector<index_t> positions;  // of each row of logits
  std::vector<S> logits;           // [tokens, V]
  std::vector<token_t> streamed;

  const std::vector<token_t>& tokens() const { return result.tokens; }
  /// As if generation had ended after `count` tokens.
  transcript first(std::size_t count) const {
    transcript cut = *this;
    const std::size_t V = tokens().empty() ? 0 : logits.size() / tokens().size();
    cut.result.tokens.resize(count);
    cut.streamed.resize(count);
    cut.positions.resize(count);
    cut.logits.resize(count * V);
    return cut;
  }
};

/// Generates and records; an on_token of the options is called as well.
template <model_config Config, class S>
transcript<accumulate_t<S>, Config.prediction.depth> record(generator<Config, cpu, S>& generator,
                                                            const std::vector<token_t>& prompt,
                                                            generate_options<S, cpu> options) {
  transcript<accumulate_t<S>, Config.prediction.depth> made;
  const auto user = options.on_token;
  options.on_token = [&](const written_token& token) {
    made.streamed.push_back(token);
    return !user || user(token);
  };
  options.on_logits = [&](index_t position, vector_view<const accumulate_t<S>, cpu> logits) {
    made.positions.push_back(position);
    made.logits.insert(made.logits.end(), logits.data(), logits.data() + logits.extent(0));
  };
  made.result = generator.generate(prompt, options);
  return made;
}

template <class S>
generate_options<S, cpu> options_of(decode_mode mode, index_t max_new_tokens) {
  generate_options<S, cpu> options;
  options.mode = mode;
  options.max_new_tokens = max_new_tokens;
  return options;
}

/// Tokens, positions and the bits of all logits are equal.
template <class S, int Depth>
comparison same_text(const transcript<S, Depth>& actual, const transcript<S, Depth>& expected) {
  for (const auto& result : {same_bits(actual.tokens(), expected.tokens()),
                             same_bits(actual.streamed, actual.tokens()),
                             same_bits(actual.positions, expected.positions)}) {
    if (!result) {
      return result;
    }
  }
  return same_bits(actual.logits, expected.logits);
}

/// Cycles in which exactly 0, 1, .. D drafts were accepted.
template <int Depth>
std::vector<index_t> accepted_lengths(const generation<Depth>& result) {
  std::vector<index_t> cycles;
  index_t at_least = result.drafted.front();
  for (const index_t more : result.accepted) {
    cycles.push_back(at_least - more);
    at_least = more;
  }
  cycles.push_back(at_least);
  return cycles;
}

/// Forward passes of speculative decoding for `tokens` tokens when every draft is accepted: nothing
/// can be drafted from a single token, nor where D drafts would not fit.
inline index_t passes_when_perfect(index_t prompt,
                                   index_t tokens,
                                   index_t depth,
                                   index_t positions) {
  index_t passes = 0;
  for (index_t count = prompt; count < prompt + tokens; ++passes) {
    count += count >= 2 && count + depth <= positions ? depth + 1 : 1;
  }
  return passes;
}

/// The cached keys [length, E] and values [length, E] of one head, one after the other.
template <class S>
std::vector<S> cached(const cache_view<S, cpu>& cache, index_t head, index_t length) {
  const index_t E = cache.head_dim;
  const cpu_detail::packed_head<S> packed(
      cache.data + head * cpu_detail::packed_head<S>::storage(cache.capacity, E),
      cache.capacity,
      E);
  constexpr index_t width = cpu_detail::packed_head<S>::width;
  std::vector<S> all;
  for (index_t p = 0; p < length; ++p) {
    for (index_t e = 0; e < E; ++e) {
      all.push_back(packed.keys[p / width * width * E + e * width + p % width]);
      all.push_back(packed.values[(e / width * packed.capacity + p) * width + e % width]);
    }
  }
  return all;
}

/// All heads of one layer below a length.
template <class S>
std::vector<S> cached(const cache_view<S, cpu>& cache, index_t length) {
  std::vector<S> all;
  for (index_t g = 0; g < cache.num_key_value_heads; ++g) {
    const auto part = cached(cache, g, length);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}
/// The latents of one layer below a length.  [length, W]
template <class S>
std::vector<S> cached(const latent_cache_view<S, cpu>& cache, index_t length) {
  return {cache.data, cache.data + length * cache.width};
}

/// All caches of the trunk below the length of a decoder.
template <model_config Config, class S>
std::vector<S> cached(const decoder<Config, cpu, S>& sequence) {
  std::vector<S> all;
  for (int layer = 0; layer < Config.num_hidden_layers; ++layer) {
    const auto part = cached(sequence.caches().at(layer), sequence.length());
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

/// NaN wherever a cache of the trunk holds nothing: at the length and behind it.
template <model_config Config, class S>
void poison_stale(const decoder<Config, cpu, S>& sequence) {
  constexpr index_t width = cpu_detail::packed_head<S>::width;
  constexpr S nan = std::numeric_limits<S>::quiet_NaN();
  for (int layer = 0; layer < Config.num_hidden_layers; ++layer) {
    const auto cache = sequence.caches().at(layer);
    const index_t E = cache.head_dim;
    const index_t storage = cpu_detail::packed_head<S>::storage(cache.capacity, E);
    for (index_t g = 0; g < cache.num_key_value_heads; ++g) {
      const cpu_detail::packed_head<S> packed(cache.data + g * storage, cache.capacity, E);
      for (index_t p = sequence.length(); p < round_up(cache.capacity, width); ++p) {
        for (index_t e = 0; e < E; ++e) {
          packed.keys[p / width * width * E + e * width + p % width] = nan;
        }
      }
      for (index_t e = 0; e < round_up(E, width); e += width) {
        for (index_t p = sequence.length(); p < cache.capacity; ++p) {
          for (index_t lane = 0; lane < width; ++lane) {
            packed.values[(e / width * packed.capacity + p) * width + lane] = nan;
          }
        }
      }
    }
  }
}

/// call() throws mtp::error, and its message contains `part`.
template <class Call>
comparison fails_with(std::string_view part, const Call& call) {
  comparison result{.count = 1, .faults = 1, .ratio = HUGE_VAL, .message = "nothing was thrown"};
  try {
    call();
  } catch (const mtp::error& e) {
    result.message = e.what();
    result.faults = result.message.find(part) == std::string::npos ? 1 : 0;
  }
  return result;
}

}  // namespace mtp::test
