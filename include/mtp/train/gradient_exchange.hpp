// The gradients of passes, on their way from the ranks that compute them to those that add them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI::detail {

/// A round: ranks 0 .. n - 1 compute the gradients of a pass each, and the owner of a shard adds
/// what they have of it to its sum, in the order of ranks. Shards are cut into buckets, which are
/// sent as soon as the backward pass has completed them, from the last one on.
///
/// A rank receives into a few buckets, so what it holds does not grow with the number of ranks. All
/// its sends are started before it waits for anything, so no rank waits for one that waits for it.
/// Messages must be under way independently of each other, and gradients in the host's memory.
template <class Sum, class Backend, class Communicator>
class gradient_exchange final : public gradient_observer {
 public:
  /// Gradients [begin, begin + parts.count()) are exchanged, in buckets of at most `bucket`
  /// elements; `parts` says whose they are. Exchanges that are under way at the same time have tags
  /// of their own.
  gradient_exchange(context<Backend>& context,
                    Communicator& group,
                    index_t begin,
                    shards parts,
                    index_t bucket,
                    int tag = gradients_tag)
      : context_(&context),
        group_(&group),
        bucket_((std::min)(bucket, parts.longest())),
        tag_(tag) {
    for (int owner = parts.ranks(); owner-- > 0;) {
      for (index_t end = parts.end(owner); end > parts.begin(owner);) {
        // Boundaries are multiples of `bucket` from the shard's beginning.
        const index_t first = parts.begin(owner) + (end - parts.begin(owner) - 1) / bucket * bucket;
        (owner == group.rank() ? own_ : others_).push_back({owner, begin + first, begin + end});
        end = first;
      }
    }
    room_ = buffer<Sum, Backend>(room_of(parts, bucket));
    receives_.resize(slots);
    sends_.reserve(others_.size());
  }

  /// Elements that are being received at a time.
  static constexpr index_t room_of(const shards& parts, index_t bucket) {
    return (std::min)(bucket, parts.longest()) * static_cast<index_t>(slots);
  }
  /// Bytes of them.
  index_t bytes() const { return static_cast<index_t>(room_.bytes()); }

  /// Begins a round of `senders` ranks. `pass` are all gradients of this rank's pass; `sum` are the
  /// sums of its shard, the first of them that of element `sum_begin`.
  void start(int senders, Sum* pass, Sum* sum, index_t sum_begin) {
    senders_ = senders;
    pass_ = pass;
    sum_ = sum;
    sum_begin_ = sum_begin;
    complete_ = own_.empty() ? 0 : own_.front().end;
    next_send_ = next_step_ = next_receive_ = posted_ = taken_ = 0;
    sends_.clear();
    for (auto& receive : receives_) {
      receive.reset();
    }
    post_receives();
  }

  /// Sends the buckets that are complete, and adds what has arrived.
  void finished(index_t begin) override {
    complete_ = begin;
    for (; next_send_ < others_.size() && others_[next_send_].begin >= begin; ++next_send_) {
      const piece& next = others_[next_send_];
      sends_.push_back(group_->start_send(
          std::span<const Sum>(pass_ + next.begin, static_cast<std::size_t>(next.count())),
          next.owner,
          tag_));
    }
    advance(false);
  }

  /// Waits for the end of the round: afterwards `pass` may change. A rank without a pass calls it
  /// after start.
  void finish() {
    complete_ = 0;
    advance(true);
    for (auto& send : sends_) {
      send.wait();
    }
    sends_.clear();
  }

 private:
  struct piece {
    int owner;
    index_t begin, end;
    index_t count() const { return end - begin; }
  };
  /// Bucket `piece` of `source`'s pass.
  struct step {
    const piece& bucket;
    int source;
  };
  static constexpr std::size_t slots = 4;  // buckets that are received at a time

  std::size_t steps() const { return own_.size() * static_cast<std::size_t>(senders_); }
  step step_at(std::size_t number) const {
    const auto senders = static_cast<std::size_t>(senders_);
    return {own_[number / senders], static_cast<int>(number % senders)};
  }
  Sum* slot(std::size_t number) {
    return room_.data() + static_cast<index_t>(number % slots) * bucket_;
  }

  /// Starts receives in the order of steps, as many as there are slots for.
  void post_receives() {
    for (; next_receive_ < steps() && posted_ - taken_ < slots; ++next_receive_) {
      const step next = step_at(next_receive_);
      if (next.source != group_->rank()) {
        receives_[posted_ % slots].emplace(group_->start_receive(
            std::span<Sum>(slot(posted_), static_cast<std::size_t>(next.bucket.count())),
            next.source,
            tag_));
        ++posted_;
      }
    }
  }

  /// Adds buckets in the order of steps: all, or those that are here.
  void advance(bool waits) {
    for (; next_step_ < steps(); ++next_step_) {
      const step now = step_at(next_step_);
      if (now.source == group_->rank()) {
        if (now.bucket.begin < complete_) {
          return;
        }
        add_to_sum(now.bucket, pass_ + now.bucket.begin);
        continue;
      }
      auto& receive = receives_[taken_ % slots];
      if (waits) {
        receive->wait();
      } else if (!receive->done()) {
        return;
      }
      receive.reset();
      add_to_sum(now.bucket, slot(taken_));
      ++taken_;
      post_receives();
    }
  }

  void add_to_sum(const piece& of, const Sum* values) {
    const dims<1> shape{of.count()};
    const vector_view<Sum, Backend> sum(sum_ + (of.begin - sum_begin_), shape);
    add(*context_, sum, sum, vector_view<const Sum, Backend>(values, shape));
  }

  context<Backend>* context_;
  Communicator* group_;
  index_t bucket_;
  int tag_;
  std::vector<piece> own_;     // of this rank's shard, from the last one on
  std::vector<piece> others_;  // of the other shards, likewise
  buffer<Sum, Backend> room_;  // [slots, bucket]
  int senders_ = 0;
  Sum* pass_ = nullptr;
  Sum* sum_ = nullptr;
  index_t sum_begin_ = 0;
  index_t complete_ = 0;  // of this rank's pass, elements from here on
  std::size_t next_send_ = 0, next_step_ = 0, next_receive_ = 0;
  std::size_t posted_ = 0, taken_ = 0;  // receives
  std::vector<typename Communicator::request> sends_;
  std::vector<std::optional<typename Communicator::request>> receives_;  // [slots]
};

}  // namespace mtp::inline MTP_ABI::detail
