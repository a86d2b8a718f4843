// Which tokens of a vocabulary a rank has.
#pragma once

#include "mtp/core/config.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Tokens [first, first + count) of `all`: all of them, or the part of a rank.
struct token_range {
  index_t first;
  index_t count;
  index_t all;

  /// Whether the vocabulary has the token.
  MTP_HOST_DEVICE bool knows(token_t token) const { return token >= 0 && token < all; }
  /// Whether the range has it.
  MTP_HOST_DEVICE bool has(token_t token) const { return token >= first && token < first + count; }
  /// Its place in the range.
  MTP_HOST_DEVICE index_t place_of(token_t token) const { return token - first; }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
