// The operations on matrices with a row for each token, whole or divided among ranks.
#pragma once

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/ops/combine.hpp"
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/sharded_cross_entropy.hpp"
#include "mtp/ops/sharded_embedding.hpp"

namespace mtp::inline MTP_ABI {

/// Of embeddings and output matrices [V, C], rank r of the R ranks of a model with a
/// tensor_parallel_size has rows [r V / R, (r + 1) V / R). Everything else calls the functions here
/// with what the rank has, and need not know. Arguments and contracts are those of the operations.
template <model_config Config>
struct vocabulary {
  static constexpr index_t ranks = Config.tensor_parallel_size;  ///< R
  static constexpr index_t rows = Config.vocab_size / ranks;     ///< V / R
  static constexpr bool whole = ranks == 1;                      ///< whether a rank has all rows

  /// Throws mtp::error unless the context has joined as many ranks as the model has.
  static void check_ranks(const char* function, const auto& context) {
    if constexpr (!whole) {
      static_cast<void>(detail::ranks_of(function, context, static_cast<int>(ranks)));
    }
  }

  /// embedding_forward.
  static void embed(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      embedding_forward(context, arguments...);
    } else {
      sharded_embedding_forward(context, arguments...);
    }
  }
  /// embedding_backward.
  static void embed_gradient(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      embedding_backward(context, arguments...);
    } else {
      sharded_embedding_backward(context, arguments...);
    }
  }
  /// combine_forward.
  static void combine(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      combine_forward(context, arguments...);
    } else {
      sharded_combine_forward(context, arguments...);
    }
  }
  /// combine_backward.
  static void combine_gradient(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      combine_backward(context, arguments...);
    } else {
      sharded_combine_backward(context, arguments...);
    }
  }
  /// linear_forward: logits of all tokens.
  static void logits(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      linear_forward(context, arguments...);
    } else {
      sharded_linear_forward(context, arguments...);
    }
  }
  /// linear_cross_entropy.
  static void score(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      linear_cross_entropy(context, arguments...);
    } else {
      sharded_cross_entropy(context, arguments...);
    }
  }
  /// linear_cross_entropy_forward.
  static void score_alone(auto& context, const auto&... arguments) {
    if constexpr (whole) {
      linear_cross_entropy_forward(context, arguments...);
    } else {
      sharded_cross_entropy_forward(context, arguments...);
    }
  }

  /// Bytes of workspace of embed and embed_gradient for N rows.
  template <class Backend, scalar S>
  static constexpr index_t embed_bytes(index_t N, index_t threads) {
    using ops = ops_of<Backend>;
    if constexpr (whole) {
      return ops::template embedding_workspace<S>(N, rows, C, threads);
    } else {
      return ops::template sharded_embedding_workspace<S>(N, C, ranks);
    }
  }
  /// Of combine and combine_gradient.
  template <class Backend, scalar S>
  static constexpr index_t combine_bytes(index_t N, index_t threads) {
    using ops = ops_of<Backend>;
    if constexpr (whole) {
      return ops::template combine_workspace<S>(N, C, C, rows, threads);
    } else {
      return ops::template sharded_combine_workspace<S>(N, C, C, rows, threads, ranks);
    }
  }
  /// Of logits.
  template <class Backend, scalar S>
  static constexpr index_t logits_bytes(index_t N, index_t threads) {
    using ops = ops_of<Backend>;
    if constexpr (whole) {
      return ops::template linear_forward_workspace<S>(N, rows, C, threads);
    } else {
      return ops::template sharded_linear_workspace<S>(N, rows, C, threads, ranks);
    }
  }
  /// Of score and score_alone, with `targets` targets of each row.
  template <class Backend, scalar S>
  static constexpr index_t score_bytes(index_t N, index_t targets, index_t threads) {
    using ops = ops_of<Backend>;
    if constexpr (whole) {
      return ops::template linear_cross_entropy_workspace<S>(N, rows, C, threads);
    } else {
      return ops::template sharded_cross_entropy_workspace<S>(N, rows, C, targets, threads, ranks);
    }
  }

 private:
  static constexpr index_t C = Config.hidden_size;
};

}  // namespace mtp::inline MTP_ABI
