// The sampling rule of a sequence: the numbers that choose_tokens reads. They are in the backend's
// memory, so a recorded cycle stays the same for all numbers.
#pragma once

#include <cstdint>

#include "mtp/core/config.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

/// Indices of sampling_rule::integers.
enum sampling_integer : index_t {
  sampling_seed,            ///< the 64 bits of the seed
  sampling_sequence,        ///< number of the sequence of this seed, in [0, 2^32)
  sampling_prompt_length,   ///< tokens before the first generated one
  sampling_min_new_tokens,  ///< no stop token before so many generated tokens
  sampling_stop_count,      ///< how many stop_tokens are in use
  sampling_has_bias,        ///< whether the bias is added, 0 or 1
  sampling_top_k,           ///< how many tokens are kept; 0: all
  sampling_integers,        ///< how many there are
};

/// Indices of sampling_rule::reals.
enum sampling_real : index_t {
  sampling_temperature,         ///< 0: the largest, without noise
  sampling_top_p,               ///< probability that is kept, in (0, 1]
  sampling_min_p,               ///< least share of the largest probability, in [0, 1]
  sampling_repetition_penalty,  ///< above 0; 1: none
  sampling_frequency_penalty,   ///< per occurrence; 0: none
  sampling_presence_penalty,    ///< once; 0: none
  sampling_reals,               ///< how many there are
};

/// A sampling rule. choose_tokens says what each number does.
template <class Backend>
struct sampling_rule {
  vector_view<index_t, Backend> integers{nullptr, dims<1>{0}};  ///< [sampling_integers]
  vector_view<double, Backend> reals{nullptr, dims<1>{0}};      ///< [sampling_reals]
  vector_view<token_t, Backend> stop_tokens{nullptr,
                                            dims<1>{0}};  ///< [sampling_stop_count] at least
  vector_view<float, Backend> bias{nullptr, dims<1>{0}};  ///< [V] with sampling_has_bias

  /// Whether there is a rule. Without one, the token of the largest logit is chosen.
  bool exists() const { return integers.data() != nullptr; }
};

namespace detail {

/// The numbers of a rule, as its backend's kernels read them.
struct sampling_numbers {
  /// Reads a rule with room for `room` stop tokens.
  MTP_HOST_DEVICE sampling_numbers(const index_t* integers, const double* reals, index_t room)
      : noise_seed{static_cast<std::uint64_t>(integers[sampling_seed])},
        sequence(static_cast<std::uint32_t>(integers[sampling_sequence])),
        prompt_length(integers[sampling_prompt_length]),
        min_new_tokens(integers[sampling_min_new_tokens]),
        stop_count(integers[sampling_stop_count] < room ? integers[sampling_stop_count] : room),
        has_bias(integers[sampling_has_bias] != 0),
        top_k(integers[sampling_top_k]),
        temperature(reals[sampling_temperature]),
        top_p(reals[sampling_top_p]),
        min_p(reals[sampling_min_p]),
        repetition(reals[sampling_repetition_penalty]),
        frequency(reals[sampling_frequency_penalty]),
        presence(reals[sampling_presence_penalty]) {}

  MTP_HOST_DEVICE bool penalizes() const {
    return repetition != 1 || frequency != 0 || presence != 0;
  }
  /// Whether stop tokens are excluded at a position.
  MTP_HOST_DEVICE bool forbids_stop(index_t position) const {
    return position - prompt_length < min_new_tokens;
  }

  seed noise_seed;
  std::uint32_t sequence;
  index_t prompt_length, min_new_tokens, stop_count;
  bool has_bias;
  index_t top_k;
  double temperature, top_p, min_p, repetition, frequency, presence;
};

}  // namespace detail
}  // namespace mtp::inline MTP_ABI
