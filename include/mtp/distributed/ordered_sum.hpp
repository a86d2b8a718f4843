// Sums over ranks in the order of ranks, whatever the engine does.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// A sum under way. For every element i of the range of this rank, with x_r the values of rank r:
///
///     accumulator[i - begin] = ((accumulator[i - begin] + x_0[i]) + x_1[i]) + .. + x_(R-1)[i]
///
/// So the bits are those of one process that adds the same values in the same order. MPI leaves the
/// order of its own sums to the implementation (MPI 4.0, section 6.9.1).
///
/// Every rank sends each other rank the range of that rank, in pieces; the next piece travels while
/// one is added. Buffers hold two pieces from each other rank: at most 8 MiB together in f32.
///
/// `whole`: [parts.count()] values of this rank; `accumulator`: [parts.size(rank)]. They do not
/// overlap, and both live and keep their contents until the end. All ranks start the same sums.
/// Sums that are under way at the same time have different tags, or begin after the others' end.
template <host_communicator C, class T, class A = T>
class ordered_sum {
 public:
  /// Starts to send and receive. Throws mtp::error if the sizes do not fit the shards. `piece`:
  /// elements in a message, equal on all ranks; 0: chosen by the number of ranks.
  ordered_sum(C& group,
              std::span<const T> whole,
              const shards& parts,
              std::span<A> accumulator,
              int tag = detail::ordered_sum_tag,
              index_t piece = 0)
      : group_(group), whole_(whole), parts_(parts), accumulator_(accumulator), tag_(tag) {
    detail::check_shards("ordered_sum", whole.size(), parts, group.size());
    const index_t own = parts.size(group.rank());
    check(static_cast<index_t>(accumulator.size()) == own,
          "ordered_sum: an accumulator of ",
          own,
          " elements was expected for the range of rank ",
          group.rank(),
          ", but ",
          accumulator.size(),
          " came");
    check(piece >= 0,
          "ordered_sum: pieces of at least 0 elements were expected, but ",
          piece,
          " came");
    const index_t others = group.size() - 1;
    constexpr index_t most = 131072, least = 1024, together = 1 << 20;
    piece_ = piece > 0 ? piece : std::clamp(together / (std::max)(others, index_t{1}), least, most);
    pieces_ = parts.longest() / piece_ + (parts.longest() % piece_ != 0 ? 1 : 0);
    const index_t length = (std::min)(piece_, own);
    for (stage& each : stages_) {
      each.received.resize(static_cast<std::size_t>(others * length));
      each.receives.resize(static_cast<std::size_t>(group.size()));
    }
    start_next();
    start_next();
  }
  /// Takes over the sum.
  ordered_sum(ordered_sum&&) = default;  ///< Takes the sum that is under way.
  ordered_sum(const ordered_sum&) = delete;
  ordered_sum& operator=(ordered_sum&&) = delete;
  ordered_sum& operator=(const ordered_sum&) = delete;

  /// Adds what has arrived, in order, without waiting. True when the sum is complete.
  bool advance() {
    return go_on([](typename C::request& each) { return each.done(); });
  }
  /// Waits for the rest.
  void finish() {
    go_on([](typename C::request& each) {
      each.wait();
      return true;
    });
  }

 private:
  struct stage {
    std::vector<T> received;                                   // [R - 1, up to piece_]
    std::vector<std::optional<typename C::request>> receives;  // of each rank
    std::vector<typename C::request> sends;
  };

  /// Elements of a piece of a rank's range, as first and number.
  std::pair<std::size_t, std::size_t> place(int rank, index_t piece) const {
    const index_t size = parts_.size(rank);
    const index_t first = (std::min)(piece * piece_, size);
    const index_t last = (std::min)(first + piece_, size);
    return {static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)};
  }

  T* buffer_of(stage& own, int rank) const {
    const index_t length = (std::min)(piece_, parts_.size(group_.rank()));
    return own.received.data() + (rank - (rank > group_.rank() ? 1 : 0)) * length;
  }

  void start_next() {
    if (started_ == pieces_) return;
    stage& next = stages_[static_cast<std::size_t>(started_ % 2)];
    const int R = group_.size(), own = group_.rank();
    const std::size_t count = place(own, started_).second;
    for (int i = 1; i < R && count > 0; ++i) {
      const int from = (own + R - i) % R;
      next.receives[static_cast<std::size_t>(from)].emplace(
          group_.start_receive(std::span<T>(buffer_of(next, from), count), from, tag_));
    }
    for (int i = 1; i < R; ++i) {  // ranks begin with different ones
      const int to = (own + i) % R;
      const auto [first, number] = place(to, started_);
      if (number == 0) continue;
      const auto begin = static_cast<std::size_t>(parts_.begin(to)) + first;
      next.sends.push_back(group_.start_send(whole_.subspan(begin, number), to, tag_));
    }
    ++started_;
  }

  void add(const T* values) {
    const auto [first, count] = place(group_.rank(), added_);
    A* const into = accumulator_.data() + first;
    for (std::size_t i = 0; i < count; ++i) into[i] += static_cast<A>(values[i]);
  }

  template <class Complete>
  bool go_on(const Complete& is_complete) {
    while (added_ < pieces_) {
      stage& now = stages_[static_cast<std::size_t>(added_ % 2)];
      const auto [first, count] = place(group_.rank(), added_);
      for (; next_rank_ < group_.size(); ++next_rank_) {
        if (count == 0) continue;
        if (next_rank_ == group_.rank()) {
          add(whole_.data() + parts_.begin(next_rank_) + first);
          continue;
        }
        auto& receive = now.receives[static_cast<std::size_t>(next_rank_)];
        if (!is_complete(*receive)) return false;
        receive.reset();
        add(buffer_of(now, next_rank_));
      }
      while (!now.sends.empty()) {
        if (!is_complete(now.sends.back())) return false;
        now.sends.pop_back();
      }
      ++added_;
      next_rank_ = 0;
      start_next();
    }
    return true;
  }

  C& group_;
  std::span<const T> whole_;
  shards parts_;
  std::span<A> accumulator_;
  int tag_;
  index_t piece_ = 0;
  index_t pieces_ = 0;   // of the longest range
  index_t started_ = 0;  // pieces
  index_t added_ = 0;    // pieces
  int next_rank_ = 0;    // to be added to the current piece
  std::array<stage, 2> stages_;
};

/// A whole ordered_sum: adds the sum over ranks of this rank's range of `whole` to `accumulator`,
/// in the order of ranks.
template <host_communicator C, class T, std::size_t E, class A, std::size_t F>
void ordered_reduce_scatter(C& group,
                            std::span<T, E> whole,
                            const shards& parts,
                            std::span<A, F> accumulator) {
  ordered_sum<C, std::remove_const_t<T>, A>(group, whole, parts, accumulator).finish();
}

/// values = ((0 + x_0) + x_1) + .. on all ranks: the sum over ranks in their order.
template <host_communicator C, class T, std::size_t E>
void ordered_all_reduce(C& group, std::span<T, E> values) {
  const shards parts(static_cast<index_t>(values.size()), group.size());
  std::vector<T> sums(static_cast<std::size_t>(parts.size(group.rank())));
  ordered_reduce_scatter(group, values, parts, std::span(sums));
  std::copy(sums.begin(), sums.end(), values.begin() + parts.begin(group.rank()));
  group.all_gather(values, parts);
}

}  // namespace mtp::inline MTP_ABI
