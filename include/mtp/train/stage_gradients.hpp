// The gradients of a stage of a pipeline: the sum over the passes of a step.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/stage_layout.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/train/stage_sums.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Whether the head's part of an embedding's gradient is added over all passes of a step before the
/// first station gets it.
constexpr bool hands_over_once(const pipeline_schedule& schedule, reduction_order order) {
  return order == reduction_order::engine && schedule.passes > 1 && schedule.stations() > 1;
}

/// step_gradients of a stage: g = ((0 + p_0) + p_1) + ... + p_(K-1) for the parameters that it
/// owns, p_k the gradient of pass k computed from zero.
///
/// The gradient of an embedding that both ends read begins, in each pass, with what the head adds
/// to it, as in one process. So the head's side hands over this array for each pass, and the first
/// station goes on from it.
template <class Sum, class Backend, class Communicator, class Layout>
class stage_gradients {
 public:
  using sums_type = stage_sums<Sum, Backend, Communicator, Layout>;

  /// `group` are the stages of this copy, `others` the ranks with this stage in all copies, or
  /// null.
  stage_gradients(context<Backend>& context,
                  Communicator& group,
                  Communicator* others,
                  const Layout& at,
                  const pipeline_schedule& schedule,
                  const pipeline_copies& copies,
                  reduction_order order,
                  index_t bucket)
      : group_(&group),
        at_(&at),
        schedule_(schedule),
        passes_(copies.passes_of(others == nullptr ? 0 : others->rank())),
        has_blocks_(schedule.has_blocks(group.rank())),
        has_head_(group.rank() == schedule.head_rank()),
        shares_(Layout::head_embeds && schedule.stations() > 1),
        once_(hands_over_once(schedule, order)),
        slots_(once_ ? 1 : schedule.waiting_gradients()),
        pass_(at.storage),
        sums_(context, others, at, copies, has_blocks_, order, bucket),
        has_sum_(copies.passes > 1),
        waiting_(waiting_elements(at, schedule, group.rank(), order)),
        sends_(static_cast<std::size_t>(slots_)),
        tail_(static_cast<std::size_t>(unit)),
        squares_(1) {
    pieces_.reserve(static_cast<std::size_t>(at.owned() / unit + 1));
    context.reserve(ops_of<Backend>::sum_of_squares_workspace(unit));
  }

  /// Bytes of gradients on a rank.
  static constexpr index_t bytes_of(const Layout& at,
                                    const pipeline_schedule& schedule,
                                    const pipeline_copies& copies,
                                    int rank,
                                    reduction_order order) {
    return sums_type::bytes_of(at, copies) +
           (at.storage + waiting_elements(at, schedule, rank, order)) *
               static_cast<index_t>(sizeof(Sum));
  }
  index_t bytes() const { return pass_.bytes() + sums_.bytes() + waiting_.bytes(); }
  /// Bytes of room for gradients of other copies.
  index_t room() const { return sums_.room(); }

  /// A step begins.
  void begin(context<Backend>& context) {
    sums_.begin(context);
    if (!once_) {
      receive_embedding();
    }
  }

  /// Where a pass adds its gradients, in the stage's layout.
  parameter_array<Sum, Backend> of_pass() { return {pass_.data(), pass_.count()}; }

  /// In front of the head of a pass.
  void begin_head(context<Backend>& context) {
    wait(stage_part::head);
    if (has_blocks_) {
      clear(context, 0, at_->embedding);
      clear(context, at_->own_head.local, at_->own_head.count);
    } else {
      clear(context, 0, pass_.count());
    }
  }
  /// Behind it.
  void end_head(context<Backend>& context, index_t k) {
    if (shares_) {
      hand_over(context, k);
    }
    sums_.add(context, stage_part::head, pass_.data(), k);
  }

  /// In front of the backward pass of blocks.
  void begin_backward(context<Backend>& context, index_t k) {
    const parameter_range& own = at_->own_blocks;
    const bool embeds = own.begin == 0;
    const index_t embedding = embeds ? at_->embedding : 0;
    wait(stage_part::blocks);
    if (embeds && (!shares_ || once_)) {
      clear(context, 0, embedding);
    } else if (embeds && has_head_) {
      copy(context, flat(pass_).slice(0, 0, embedding), waiting(k));
    } else if (embeds) {
      take_embedding();
    }
    clear(context, own.local + embedding, own.count - embedding);
  }
  /// Behind it.
  void end_backward(context<Backend>& context, index_t k) {
    sums_.add(context, stage_part::blocks, pass_.data(), k);
    const bool is_last = k + 1 == passes_;
    if (once_ && is_last) {
      add_embedding_of_head(context);
    } else if (!once_ && !is_last && sums_.room() == 0) {
      receive_embedding();  // otherwise other copies are still getting what is there
    }
  }

  /// In place of the head, or of a backward pass, where other copies have one more.
  void without(context<Backend>& context, stage_part part, index_t k) {
    wait(part);
    sums_.add(context, part, pass_.data(), k);
  }

  /// The step's passes have ended.
  void finish() {
    sums_.finish();
    for (auto& send : sends_) {
      if (send) {
        send->wait();
        send.reset();
      }
    }
  }

  /// The gradients of the step; the first is that of the first parameter that the stage owns.
  parameter_array<Sum, Backend> owned() {
    return {has_sum_ ? sums_.data() : pass_.data() + at_->copy.count, at_->owned()};
  }

  /// The norm of all gradients of all stages, on the rank with the head; elsewhere undefined. Sums
  /// of squares of pieces of the model's array are added in its order, from rank to rank. A piece
  /// with elements of several stages goes along with the sum until it is complete.
  double norm(context<Backend>& context) {
    square_whole_pieces(context);
    double squares = 0;
    std::size_t next = 0;  // of pieces_
    int before = 0;
    for (int hop = 0; hop <= group_->size(); ++hop) {
      const int rank = hop < group_->size() ? hop : schedule_.head_rank();
      if (rank == group_->rank()) {
        const parameter_range& range = hop < group_->size() ? at_->own_blocks : at_->own_head;
        if (hop > 0 && before != rank) {
          group_->receive(std::span<double>(&squares, 1), before, norm_tag);
          group_->receive(std::span<Sum>(tail_), before, norm_tag);
        }
        squares = add_range(context, squares, range, next);
      } else if (before == group_->rank()) {
        group_->send(std::span<const double>(&squares, 1), rank, norm_tag);
        group_->send(std::span<const Sum>(tail_), rank, norm_tag);
      }
      before = rank;
    }
    if (has_head_) {
      const index_t rest = (at_->own_head.begin + at_->own_head.count) % unit;
      squares += square(context, tail_.data(), rest);
    }
    return std::sqrt(squares);
  }

 private:
  /// Until other copies have what a part is about to overwrite: the head also the embedding, which
  /// belongs to the blocks.
  void wait(stage_part part) {
    sums_.wait(part);
    if (part == stage_part::head) sums_.wait(stage_part::blocks);
  }

  static constexpr index_t unit = sum_of_squares_piece;

  static constexpr index_t waiting_elements(const Layout& at,
                                            const pipeline_schedule& schedule,
                                            int rank,
                                            reduction_order order) {
    const bool shares = Layout::head_embeds && schedule.stations() > 1;
    const index_t slots = hands_over_once(schedule, order) ? 1 : schedule.waiting_gradients();
    return shares && rank == schedule.head_rank() ? slots * at.embedding : 0;
  }

  template <class T>
  static vector_view<T, Backend> flat(buffer<T, Backend>& array) {
    return {array.data(), dims<1>{array.count()}};
  }
  void clear(context<Backend>& context, index_t begin, index_t count) {
    fill(context, flat(pass_).slice(0, begin, count), Sum{0});
  }
  /// Where the head's part of the embedding's gradient waits.
  vector_view<Sum, Backend> waiting(index_t k) {
    return flat(waiting_).slice(0, k % slots_ * at_->embedding, at_->embedding);
  }
  void hand_over(context<Backend>& context, index_t k) {
    auto& send = sends_[static_cast<std::size_t>(k % slots_)];
    if (send) {
      send->wait();
      send.reset();
    }
    const auto there = waiting(k), part = flat(pass_).slice(0, 0, at_->embedding);
    if (once_ && k > 0) {
      add(context, there, there, part);
    } else {
      copy(context, there, part);
    }
    if (!has_blocks_ && (!once_ || k + 1 == passes_)) {
      const auto count = static_cast<std::size_t>(at_->embedding);
      send.emplace(
          group_->start_send(std::span<const Sum>(there.data(), count), 0, embedding_gradient_tag));
    }
  }
  void add_embedding_of_head(context<Backend>& context) {
    if (!shares_ || at_->own_blocks.begin != 0) return;
    const auto part = flat(pass_).slice(0, 0, at_->embedding);
    if (has_head_) {
      copy(context, part, waiting(0));
    } else {
      take_embedding();
    }
    sums_.add(context, 0, at_->embedding, pass_.data());
  }
  void receive_embedding() {
    if (shares_ && !has_head_ && at_->own_blocks.begin == 0) {
      const auto count = static_cast<std::size_t>(at_->embedding);
      receive_.emplace(group_->start_receive(
          std::span<Sum>(pass_.data(), count), schedule_.head_rank(), embedding_gradient_tag));
    }
  }

  /// The head's part of the embedding's gradient has come.
  void take_embedding() {
    if (!receive_) receive_embedding();
    receive_->wait();
    receive_.reset();
  }

  double square(context<Backend>& context, const Sum* from, index_t count) {
    if (count == 0) return 0;
    sum_of_squares(context,
                   vector_view<double, Backend>(squares_.data(), dims<1>{1}),
                   vector_view<const Sum, Backend>(from, dims<1>{count}));
    return squares_.data()[0];
  }
  /// The first element of a range that begins a piece, or behind the range.
  static index_t first_piece(const parameter_range& range) {
    return (std::min)(round_up(range.begin, unit), range.begin + range.count);
  }
  /// Those with all elements on this rank, before it waits for others.
  void square_whole_pieces(context<Backend>& context) {
    pieces_.clear();
    for (const parameter_range& range : {at_->own_blocks, at_->own_head}) {
      const Sum* const values = owned().data() + (range.local - at_->copy.count);
      index_t at = first_piece(range);
      for (; at + unit <= range.begin + range.count; at += unit) {
        pieces_.push_back(square(context, values + (at - range.begin), unit));
      }
    }
  }
  /// squares, and the pieces that end in a range.
  double add_range(context<Backend>& context,
                   double squares,
                   const parameter_range& range,
                   std::size_t& next) {
    const Sum* const values = owned().data() + (range.local - at_->copy.count);
    const index_t end = range.begin + range.count, first = first_piece(range);
    const auto keep = [&](index_t from, index_t to) {  // in the piece that is not complete
      std::copy(
          values + (from - range.begin), values + (to - range.begin), tail_.begin() + from % unit);
    };
    keep(range.begin, first);
    if (first > range.begin && first % unit == 0) {
      squares += square(context, tail_.data(), unit);
    }
    index_t at = first;
    for (; at + unit <= end; at += unit) {
      squares += pieces_[next++];
    }
    keep(at, end);
    return squares;
  }

  Communicator* group_;
  const Layout* at_;
  pipeline_schedule schedule_;
  index_t passes_;              // of this copy
  bool has_blocks_, has_head_;  // the head without blocks runs what blocks the rank has
  bool shares_, once_;
  index_t slots_;              // for gradients of the embedding that wait
  buffer<Sum, Backend> pass_;  // [storage]
  sums_type sums_;
  bool has_sum_;
  buffer<Sum, Backend> waiting_;  // [waiting gradients, embedding], where the head is
  std::vector<std::optional<typename Communicator::request>> sends_;
  std::optional<typename Communicator::request> receive_;
  std::vector<Sum> tail_;       // elements of a piece, from its beginning on
  std::vector<double> pieces_;  // sums of squares
  buffer<double, Backend> squares_;
};

}  // namespace mtp::inline MTP_ABI::detail
