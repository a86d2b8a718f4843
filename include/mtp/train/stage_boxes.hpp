// Streams and their gradients, on their way from one stage of a pipeline to the next.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI::detail {

/// A neighbour's matrices [N, C], one for each pass. The next one is received while this one is
/// used.
template <class S, class Backend, class Communicator>
class stage_inbox {
 public:
  /// From rank `from`; with `N` = 0 nothing is received, and nothing held.
  stage_inbox(Communicator& group, int from, int tag, index_t N, index_t C)
      : group_(&group), from_(from), tag_(tag), rows_(N), columns_(C), room_(N * C) {}

  index_t bytes() const { return room_.bytes(); }
  /// `messages` will come.
  void expect(index_t messages) {
    left_ = messages;
    post();
  }
  /// to = the next of them.  [N, C]
  void take(context<Backend>& context, matrix_view<S, Backend> to) {
    request_->wait();
    request_.reset();
    copy(context, to, matrix_view<const S, Backend>(room_.data(), {rows_, columns_}));
    post();
  }

 private:
  void post() {
    if (rows_ > 0 && left_ > 0) {
      --left_;
      request_.emplace(group_->start_receive(
          std::span<S>(room_.data(), static_cast<std::size_t>(room_.count())), from_, tag_));
    }
  }

  Communicator* group_;
  int from_, tag_;
  index_t rows_, columns_;
  buffer<S, Backend> room_;  // [N, C]
  index_t left_ = 0;
  std::optional<typename Communicator::request> request_;
};

/// Matrices [N, C] for a neighbour. Each is sent while the next one is computed.
template <class S, class Backend, class Communicator>
class stage_outbox {
 public:
  /// To rank `to`; with `N` = 0 nothing is sent, and nothing held.
  stage_outbox(Communicator& group, int to, int tag, index_t N, index_t C)
      : group_(&group), to_(to), tag_(tag), rows_(N), columns_(C), room_(N * C) {}

  index_t bytes() const { return room_.bytes(); }
  /// Sends a copy.
  void send(context<Backend>& context, matrix_view<const S, Backend> from) {
    if (rows_ == 0) return;
    finish();
    copy(context, matrix_view<S, Backend>(room_.data(), {rows_, columns_}), from);
    request_.emplace(group_->start_send(
        std::span<const S>(room_.data(), static_cast<std::size_t>(room_.count())), to_, tag_));
  }
  /// Waits until what was sent has arrived.
  void finish() {
    if (request_) {
      request_->wait();
      request_.reset();
    }
  }

 private:
  Communicator* group_;
  int to_, tag_;
  index_t rows_, columns_;
  buffer<S, Backend> room_;  // [N, C]
  std::optional<typename Communicator::request> request_;
};

}  // namespace mtp::inline MTP_ABI::detail
