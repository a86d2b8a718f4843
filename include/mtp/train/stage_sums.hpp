// The sum of a stage's gradients over the passes of a step, whichever copies of it compute them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/train/gradient_exchange.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI::detail {

/// What is complete at the same time: behind the backward pass of blocks, or behind the head.
enum class stage_part { blocks, head };

/// Of a rank whose blocks have a backward pass of their own if `has_blocks`; otherwise they are
/// part of the head's.
template <class Layout>
constexpr parameter_range range_of(const Layout& at, stage_part part, bool has_blocks) {
  if (part == stage_part::blocks) return has_blocks ? at.own_blocks : parameter_range{0, 0, 0};
  return has_blocks ? at.own_head : parameter_range{0, at.copy.count, at.owned()};
}

/// With p_k the gradient of pass k, computed from zero by copy k mod D,
///
///     g = ((0 + p_0) + p_1) + ... + p_(K-1)
///
/// elementwise, on every copy. With reduction_order::by_rank the ranks of the copies exchange what
/// they have of a round of D passes (gradient_exchange) while they go on with the next one. With
/// reduction_order::engine each adds its own passes, and the engine adds the copies.
template <class Sum, class Backend, class Communicator, class Layout>
class stage_sums {
  using exchange_type = gradient_exchange<Sum, Backend, Communicator>;
  static constexpr index_t unit = 64;  // boundaries of shards
  static constexpr std::array parts{stage_part::blocks, stage_part::head};

 public:
  /// `group` are the ranks with this stage, one of each copy; null if there is but one.
  stage_sums(context<Backend>& context,
             Communicator* group,
             const Layout& at,
             const pipeline_copies& copies,
             bool has_blocks,
             reduction_order order,
             index_t bucket)
      : group_(group),
        at_(&at),
        copies_(copies),
        has_blocks_(has_blocks),
        order_(order),
        sum_(copies.passes > 1 ? at.owned() : 0) {
    for (const stage_part part : parts) {
      const parameter_range range = range_of(at, part, has_blocks);
      if (group == nullptr || order == reduction_order::engine || range.count == 0) continue;
      exchanges_[index(part)].emplace(
          context,
          *group,
          range.local,
          shards_of(range, copies),
          bucket,
          part == stage_part::head ? head_gradients_tag : gradients_tag);
    }
  }

  /// Bytes of the sum.
  static constexpr index_t bytes_of(const Layout& at, const pipeline_copies& copies) {
    return copies.passes > 1 ? at.owned() * static_cast<index_t>(sizeof(Sum)) : 0;
  }
  index_t bytes() const { return sum_.bytes(); }
  /// Bytes of room for what is received.
  static constexpr index_t room_of(const Layout& at,
                                   const pipeline_copies& copies,
                                   bool has_blocks,
                                   reduction_order order,
                                   index_t bucket) {
    index_t elements = 0;
    for (const stage_part part : parts) {
      const parameter_range range = range_of(at, part, has_blocks);
      if (copies.count > 1 && order == reduction_order::by_rank && range.count > 0) {
        elements += exchange_type::room_of(shards_of(range, copies), bucket);
      }
    }
    return elements * static_cast<index_t>(sizeof(Sum));
  }
  index_t room() const {
    index_t bytes = 0;
    for (const auto& exchange : exchanges_) bytes += exchange ? exchange->bytes() : 0;
    return bytes;
  }
  /// Bytes that a copy sends to others in a step. In the engine's order those of a sum that every
  /// rank gets a shard of.
  static constexpr double sent_of(const Layout& at,
                                  const pipeline_copies& copies,
                                  int copy,
                                  bool has_blocks,
                                  reduction_order order) {
    if (copies.count == 1) return 0;
    const auto passes = order == reduction_order::engine ? 1 : copies.passes_of(copy);
    double elements = 0;
    const auto add = [&](const parameter_range& range) {
      const index_t own = shards_of(range, copies).size(copy);
      elements += static_cast<double>(passes * (range.count - own) + own * (copies.count - 1));
    };
    if (order == reduction_order::engine) {
      add({0, at.copy.count, at.owned()});
    } else {
      for (const stage_part part : parts) add(range_of(at, part, has_blocks));
    }
    return elements * sizeof(Sum);
  }

  /// A step begins.
  void begin(context<Backend>& context) { fill(context, flat(), Sum{0}); }
  /// Behind it the gradients of a part may change.
  void wait(stage_part part) {
    if (bool& is_under_way = under_way_[index(part)]) {
      exchanges_[index(part)]->finish();
      is_under_way = false;
    }
  }
  /// Adds the part of `round`'s passes; `pass` are the gradients of this copy's, in the layout of
  /// the stage, if it computes one.
  void add(context<Backend>& context, stage_part part, Sum* pass, index_t round) {
    const parameter_range range = range_of(*at_, part, has_blocks_);
    auto& exchange = exchanges_[index(part)];
    const bool computes = copies_.computes(copy(), round);
    if (!exchange) {
      if (computes) add(context, range.local, range.count, pass);
      return;
    }
    exchange->start(copies_.senders(round), pass, sum_.data(), at_->copy.count);
    if (computes) exchange->finished(range.local);
    under_way_[index(part)] = true;
  }
  /// Adds elements of this copy's pass alone.
  void add(context<Backend>& context, index_t begin, index_t count, const Sum* pass) {
    if (sum_.count() == 0) return;
    const auto sum = flat().slice(0, begin - at_->copy.count, count);
    mtp::add(context, sum, sum, vector_view<const Sum, Backend>(pass + begin, dims<1>{count}));
  }
  /// All passes have been added: every copy gets the sum.
  void finish() {
    for (const stage_part part : parts) wait(part);
    if (group_ == nullptr) return;
    const auto gather = [&](const parameter_range& range, bool adds) {
      const auto own = std::span<Sum>(sum_.data() + (range.local - at_->copy.count),
                                      static_cast<std::size_t>(range.count));
      const shards parts_of_copies = shards_of(range, copies_);
      if (adds) group_->reduce_scatter(own, parts_of_copies);
      group_->all_gather(own, parts_of_copies);
    };
    if (order_ == reduction_order::engine) {
      gather({0, at_->copy.count, at_->owned()}, true);
      return;
    }
    for (const stage_part part : parts) {
      const parameter_range range = range_of(*at_, part, has_blocks_);
      if (range.count > 0) gather(range, false);
    }
  }

  /// The sum of what the stage owns, if a step has several passes.
  Sum* data() { return sum_.data(); }

 private:
  static constexpr std::size_t index(stage_part part) { return static_cast<std::size_t>(part); }
  static constexpr shards shards_of(const parameter_range& range, const pipeline_copies& copies) {
    return shards(range.count, copies.count, unit);
  }
  int copy() const { return group_ == nullptr ? 0 : group_->rank(); }
  vector_view<Sum, Backend> flat() { return {sum_.data(), dims<1>{sum_.count()}}; }

  Communicator* group_;
  const Layout* at_;
  pipeline_copies copies_;
  bool has_blocks_;
  reduction_order order_;
  buffer<Sum, Backend> sum_;                               // [owned]
  std::array<std::optional<exchange_type>, 2> exchanges_;  // by part
  std::array<bool, 2> under_way_{};
};

}  // namespace mtp::inline MTP_ABI::detail
