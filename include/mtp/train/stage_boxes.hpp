// Streams and their gradients, on their way from one stage of a pipeline to the next.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/model/stage_layout.hpp"
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
  /// to = the first rows of the next of them, at most N.  [rows, C]
  void take(context<Backend>& context, matrix_view<S, Backend> to) {
    request_->wait();
    request_.reset();
    copy(context, to, matrix_view<const S, Backend>(room_.data(), {to.extent(0), columns_}));
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

/// All boxes of a rank of a pipeline.
template <class S, class Backend, class Communicator>
struct stage_links {
  using inbox = stage_inbox<S, Backend, Communicator>;
  using outbox = stage_outbox<S, Backend, Communicator>;

  inbox streams_in;      // for blocks
  outbox streams_out;    // of blocks
  inbox gradients_in;    // for blocks
  outbox gradients_out;  // of blocks
  inbox head_in;         // streams for the head
  outbox head_out;       // their gradients

  /// Of matrices [N, C] between the ranks of a schedule, on one with this stage.
  stage_links(Communicator& group,
              const pipeline_schedule& schedule,
              const pipeline_stage& stage,
              index_t N,
              index_t C)
      : stage_links(group,
                    schedule.has_blocks(group.rank()) && !stage.embeds ? N : 0,
                    schedule.has_blocks(group.rank()) ? N : 0,
                    stage.predicts && schedule.stations() > 1 ? N : 0,
                    C) {}

  index_t bytes() const {
    return streams_in.bytes() + streams_out.bytes() + gradients_in.bytes() + gradients_out.bytes() +
           head_in.bytes() + head_out.bytes();
  }
  /// A step of so many passes begins.
  void expect(index_t passes) {
    for (inbox* box : {&streams_in, &gradients_in, &head_in}) {
      box->expect(passes);
    }
  }
  /// Forward passes alone.
  void expect_streams(index_t passes) {
    streams_in.expect(passes);
    head_in.expect(passes);
  }
  /// Waits until all that was sent has arrived.
  void finish() {
    for (outbox* box : {&streams_out, &gradients_out, &head_out}) {
      box->finish();
    }
  }

 private:
  stage_links(Communicator& group, index_t before, index_t behind, index_t head, index_t C)
      : streams_in(group, previous(group), stream_tag, before, C),
        streams_out(group, next(group), stream_tag, behind, C),
        gradients_in(group, next(group), stream_gradient_tag, behind, C),
        gradients_out(group, previous(group), stream_gradient_tag, before, C),
        head_in(group, previous(group), stream_tag, head, C),
        head_out(group, previous(group), stream_gradient_tag, head, C) {}

  static int next(const Communicator& group) { return (group.rank() + 1) % group.size(); }
  static int previous(const Communicator& group) {
    return (group.rank() + group.size() - 1) % group.size();
  }
};

/// Sends the embedding of the first rank to the one with a copy of it, if there is one.
template <class Communicator, class Model>
void copy_embedding(Communicator& stages, const pipeline_schedule& schedule, Model& model) {
  const int head_rank = schedule.head_rank();
  if (!Model::layout_type::head_embeds || head_rank == 0) return;
  const auto values =
      std::span(model.values().data(), static_cast<std::size_t>(model.layout.embedding));
  if (stages.rank() == 0) {
    stages.send(values, head_rank, embedding_tag);
  } else if (stages.rank() == head_rank) {
    stages.receive(values, 0, embedding_tag);
  }
}

}  // namespace mtp::inline MTP_ABI::detail
