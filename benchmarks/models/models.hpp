// Models that are trained and decoded with, chosen at run time: programs include this, and the
// library is compiled once, in training.cpp and decoding.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <vector>

#include "mtp/model/model_config.hpp"

namespace mtp::bench {

/// 4 layers of width 256 on bytes: 3.3 million parameters, 13 MB of weights.
constexpr model_config small(head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 256,
          .num_hidden_layers = 4,
          .max_position_embeddings = 256,
          .attention = {.num_attention_heads = 4},
          .feed_forward = {.intermediate_size = 704},
          .prediction = {.kind = head, .depth = depth}};
}

/// 8 layers of width 512 on a vocabulary of words. A pass reads 42 million weights, 168 MB: more
/// than most last-level caches hold.
constexpr model_config large(head_kind head, int depth) {
  return {.vocab_size = 32000,
          .hidden_size = 512,
          .num_hidden_layers = 8,
          .max_position_embeddings = 512,
          .attention = {.num_attention_heads = 8},
          .feed_forward = {.intermediate_size = 1408},
          .prediction = {.kind = head, .depth = depth}};
}

/// A model that is being trained on random tokens.
class training_run {
 public:
  virtual ~training_run() = default;
  /// One step; returns the next-token loss before it, in nats.
  virtual double step() = 0;
  virtual index_t tokens() const = 0;  ///< of a step
  virtual index_t parameters() const = 0;
  virtual double flops() const = 0;  ///< of a step
};

/// The small model in f32, 16 rows of 256 tokens. Nothing where training.cpp has no such head.
std::unique_ptr<training_run> make_training(head_kind head, int depth, int threads);

struct decoded {
  std::vector<token_t> tokens;
  index_t passes = 0;  ///< of the trunk, prompt not included
  double seconds = 0;  ///< prompt not included
};

/// A model with random parameters, and one sequence.
class decoding_run {
 public:
  virtual ~decoding_run() = default;
  virtual const model_config& config() const = 0;
  virtual decoded generate(std::span<const token_t> prompt, index_t count, bool speculative) = 0;

  /// Starts the sequence again with these tokens; then pass() may be called.
  virtual void prefill(std::span<const token_t> tokens) = 0;
  /// Seconds of a pass over the first `rows` of the tokens, with logits of all rows; the sequence
  /// is what it was. At most depth + 1 rows.
  virtual double pass(index_t rows) = 0;

  /// A line "name outputs inputs" for each parameter (inputs 0 for a vector), an empty line, then
  /// the elements of all, row by row, as little-endian f32.
  virtual void write_parameters(std::ostream& out) const = 0;
};

/// Nothing where decoding.cpp has no such model. `vocabulary` tells small from large.
std::unique_ptr<decoding_run> make_decoding(const model_config& config, int threads);

}  // namespace mtp::bench
