// The ranks that compute one model together, as operations see them.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Ranks that each have a part of a model's heads, of the width of its feed-forward layers and of
/// its vocabulary (tensor parallelism: Shoeybi et al. 2019, arXiv 1909.08053, section 3). It
/// carries bytes; what is computed with them, and in which order, operations decide. A context gets
/// it by join(): tensor_ranks in distributed/tensor_ranks.hpp makes one of any communicator of
/// hosts, and nccl_tensor_ranks in distributed/nccl_tensor_ranks.cuh one of GPUs.
///
/// All ranks make the same calls in the same order, with the same sizes. Range r of `total` bytes
/// in pieces of `unit` bytes is that of shards(total, size(), unit) (distributed/shards.hpp): as
/// long as those of the others, but for the last ones.
class tensor_group {
 public:
  virtual ~tensor_group() = default;

  /// This rank.
  int rank() const { return rank_; }
  /// R, the number of ranks.
  int size() const { return size_; }

  /// In place: every rank brings its range of `whole` and gets those of the others, in the host's
  /// memory.  [total]
  virtual void all_gather(std::byte* whole, index_t total, index_t unit) = 0;

 protected:
  /// Of rank `rank` among `size`.
  tensor_group(int rank, int size) : rank_(rank), size_(size) {}
  tensor_group(const tensor_group&) = default;             ///< Copies rank and size.
  tensor_group& operator=(const tensor_group&) = default;  ///< Copies rank and size.

 private:
  int rank_;
  int size_;
};

/// A tensor_group that carries what operations on the host's memory exchange.
class host_tensor_group : public tensor_group {
 public:
  /// Every rank sends range r of `whole` to rank r. `received` are the ranges of this rank, one
  /// behind the other in the order of ranks.  whole [total], received [R, bytes of the range]
  virtual void exchange(const std::byte* whole,
                        std::byte* received,
                        index_t total,
                        index_t unit) = 0;

 protected:
  using tensor_group::tensor_group;
};

namespace detail {

/// A context that can join ranks.
template <class Context>
concept joins_ranks = requires(const Context& context) {
  context.ranks();
};

/// The ranks that a context has joined. Throws mtp::error if it has joined none, or not `expected`
/// of them (0: any number).
template <class Context>
tensor_group& ranks_of(const char* function, const Context& context, int expected = 0) {
  static_assert(
      joins_ranks<Context>,
      "tensor parallelism: the backend's context has no ranks; those of mtp::cpu and mtp::cuda "
      "have");
  tensor_group* const ranks = context.ranks();
  check(ranks != nullptr,
        function,
        ": expected a context that has joined the ranks of a tensor_group, got one that has not; "
        "call context.join(ranks) first");
  check(expected == 0 || ranks->size() == expected,
        function,
        ": expected a tensor_group of ",
        expected,
        " ranks, got ",
        ranks->size());
  return *ranks;
}

/// What each rank brings, in the order of ranks, on all of them.  [R]
template <class T>
std::vector<T> from_all_ranks(tensor_group& ranks, const T& own) {
  std::vector<T> all(static_cast<std::size_t>(ranks.size()), own);
  constexpr auto bytes = static_cast<index_t>(sizeof(T));
  ranks.all_gather(reinterpret_cast<std::byte*>(all.data()), ranks.size() * bytes, bytes);
  return all;
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI
