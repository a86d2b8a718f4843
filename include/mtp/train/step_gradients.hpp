// The gradients of a step: the sum over its passes, whichever ranks compute them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/host_collectives.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/train/gradient_exchange.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The group of what runs alone; it has no state.
inline alone nobody_else;

/// With K passes, p_k the gradient of pass k computed from zero,
///
///     g = ((0 + p_0) + p_1) + ... + p_(K-1)
///
/// elementwise. Of R ranks, rank k mod R computes pass k. With one pass there is one array, g =
/// p_0. The rank has the sums of its part: all parameters, or with ZeRO-1 its shard of those that
/// are trained.
template <class Sum, class Backend, class Communicator>
class step_gradients {
 public:
  /// For `count` gradients, of which those before `trained_from` stay zero. Of the norm, this group
  /// answers for the gradients in the ranges `counted`, which ascend.
  template <class Options>
  step_gradients(context<Backend>& context,
                 Communicator& group,
                 index_t count,
                 index_t trained_from,
                 const Options& options,
                 std::span<const parameter_range> counted)
      : group_(&group),
        count_(count),
        trained_from_(trained_from),
        passes_(options.accumulation),
        order_(options.reduction),
        parts_(count - trained_from, group.size(), unit),
        whole_(options.sharding == optimizer_sharding::none || group.size() == 1),
        sum_(part_end() - part_begin()),
        pass_(passes_ > 1 ? count : 0),
        in_pieces_(!whole_ || counted.size() != 1 || counted[0].count != count),
        ranges_(ranges_of(counted)),
        squares_(static_cast<index_t>(ranges_.size())),
        range_sums_(ranges_.size()),
        piece_sums_(static_cast<std::size_t>(in_pieces_ ? pieces_of(parts_.count()) : 1)) {
    if constexpr (!is_alone) {
      if (group.size() > 1 && order_ == reduction_order::by_rank) {
        exchange_.emplace(context, group, trained_from, parts_, options.bucket_elements);
      }
    }
    context.reserve(ops_of<Backend>::sum_of_squares_workspace(sum_.count()));
  }

  /// The first element of this rank's part.
  index_t part_begin() const { return whole_ ? 0 : trained_from_ + parts_.begin(group_->rank()); }
  /// The element behind its last one.
  index_t part_end() const { return whole_ ? count_ : trained_from_ + parts_.end(group_->rank()); }
  /// Whether the part is everything.
  bool whole() const { return whole_; }
  /// The gradients of the part.
  parameter_array<Sum, Backend> part() { return {sum_.data(), sum_.count()}; }

  /// Calls pass(k, gradients, observer), which adds the gradient of pass k, for those of this rank.
  template <class Pass>
  void run(context<Backend>& context, const Pass& pass) {
    clear(context, sum_);
    if (passes_ == 1) {
      pass(index_t{0}, part(), static_cast<gradient_observer*>(nullptr));
    } else if (group_->size() == 1) {
      for (index_t k = 0; k < passes_; ++k) {
        run_pass(context, pass, k, nullptr);
        add(context, flat(sum_), flat(sum_), flat(pass_));
      }
    } else if constexpr (!is_alone) {
      if (order_ == reduction_order::engine) {
        run_in_order_of_engine(context, pass);
      } else {
        run_in_order_of_ranks(context, pass);
      }
      if (whole_) {
        settle(context);
        group_->all_gather(trained(sum_.data()), parts_);
      }
    }
  }

  /// The sum of the squares of all gradients that are trained and counted.
  double squares(context<Backend>& context, host_collectives<Backend, Communicator>& host) {
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      square(context, squares_.data() + i, sum_.data() + ranges_[i].local, ranges_[i].count);
    }
    backend_traits<Backend>::download(
        context, range_sums_.data(), squares_.data(), static_cast<std::size_t>(squares_.bytes()));
    std::fill(piece_sums_.begin(), piece_sums_.end(), 0.0);
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      piece_sums_[static_cast<std::size_t>(piece_of(ranges_[i].begin))] += range_sums_[i];
    }
    if (!whole_) {
      const shards pieces(static_cast<index_t>(piece_sums_.size()), group_->size());
      host.all_gather(context, *group_, std::span<double>(piece_sums_), pieces);
    }
    double squares = 0;
    for (const double sum : piece_sums_) {
      squares += sum;
    }
    return squares;
  }

  /// Every rank gets the elements of all parts, after each has updated its own.
  template <class Element>
  void gather(context<Backend>& context, parameter_array<Element, Backend> values) {
    if (!whole_) {
      settle(context);
      group_->all_gather(trained(values.data()), parts_);
    }
  }

 private:
  // Boundaries of shards are boundaries of partial sums, and of no more ranges of adamw than need
  // be.
  static constexpr index_t unit = sum_of_squares_piece;
  static_assert(unit % adamw_range_elements == 0);
  static constexpr bool is_alone = std::is_same_v<Communicator, alone>;
  struct nothing {};  // so that a process alone does not compile what it does not need
  using exchange_type =
      std::conditional_t<is_alone, nothing, gradient_exchange<Sum, Backend, Communicator>>;

  static index_t pieces_of(index_t count) { return (count + unit - 1) / unit; }

  /// The piece of the norm that a gradient belongs to: a unit of the shards, or everything, which
  /// sum_of_squares cuts in the same way.
  index_t piece_of(index_t offset) const {
    return in_pieces_ ? (offset - trained_from_) / unit : 0;
  }

  /// The counted gradients of this rank's part, cut at the borders of pieces.
  std::vector<parameter_range> ranges_of(std::span<const parameter_range> counted) const {
    std::vector<parameter_range> ranges;
    const index_t first = (std::max)(part_begin(), trained_from_);
    for (const parameter_range& all : counted) {
      const index_t end = (std::min)(all.begin + all.count, part_end());
      for (index_t begin = (std::max)(all.begin, first); begin < end;) {
        const index_t border =
            !in_pieces_ ? end : (std::min)(end, trained_from_ + (piece_of(begin) + 1) * unit);
        ranges.push_back({begin, begin - part_begin(), border - begin});
        begin = border;
      }
    }
    return ranges;
  }

  static vector_view<Sum, Backend> flat(buffer<Sum, Backend>& array) {
    return {array.data(), dims<1>{array.count()}};
  }
  static void clear(context<Backend>& context, buffer<Sum, Backend>& array) {
    fill(context, flat(array), Sum{0});
  }
  static void settle(context<Backend>& context) {
    if constexpr (!backend_traits<Backend>::is_host_memory) {
      backend_traits<Backend>::synchronize(context);
    }
  }
  static void square(context<Backend>& context, double* result, const Sum* from, index_t count) {
    sum_of_squares(context,
                   vector_view<double, Backend>(result, dims<1>{1}),
                   vector_view<const Sum, Backend>(from, dims<1>{count}));
  }
  /// The elements that are trained, of an array of all.
  template <class Element>
  std::span<Element> trained(Element* all) const {
    return {all + trained_from_, static_cast<std::size_t>(parts_.count())};
  }

  template <class Pass>
  void run_pass(context<Backend>& context,
                const Pass& pass,
                index_t number,
                gradient_observer* observer) {
    clear(context, pass_);
    pass(number, parameter_array<Sum, Backend>(pass_.data(), pass_.count()), observer);
  }

  template <class Pass>
  void run_in_order_of_ranks(context<Backend>& context, const Pass& pass) {
    for (index_t first = 0; first < passes_; first += group_->size()) {
      const auto senders = (std::min)(passes_ - first, static_cast<index_t>(group_->size()));
      exchange_->start(static_cast<int>(senders), pass_.data(), sum_.data(), part_begin());
      if (group_->rank() < senders) {
        run_pass(context, pass, first + group_->rank(), &*exchange_);
      }
      exchange_->finish();
    }
  }

  template <class Pass>
  void run_in_order_of_engine(context<Backend>& context, const Pass& pass) {
    clear(context, pass_);
    for (index_t k = group_->rank(); k < passes_; k += group_->size()) {
      pass(k,
           parameter_array<Sum, Backend>(pass_.data(), pass_.count()),
           static_cast<gradient_observer*>(nullptr));
    }
    settle(context);
    group_->reduce_scatter(trained(pass_.data()), parts_);
    const index_t begin = trained_from_ + parts_.begin(group_->rank());
    const dims<1> shape{parts_.size(group_->rank())};
    copy(context,
         vector_view<Sum, Backend>(sum_.data() + (begin - part_begin()), shape),
         vector_view<const Sum, Backend>(pass_.data() + begin, shape));
  }

  Communicator* group_;
  index_t count_, trained_from_, passes_;
  reduction_order order_;
  shards parts_;  // of the elements from trained_from_ on
  bool whole_;
  buffer<Sum, Backend> sum_;             // of the part
  buffer<Sum, Backend> pass_;            // of all elements, if there are several passes
  bool in_pieces_;                       // whether squares are added up piece by piece
  std::vector<parameter_range> ranges_;  // whose squares this rank adds up
  buffer<double, Backend> squares_;      // of each range
  std::vector<double> range_sums_;       // the same on the host
  std::vector<double> piece_sums_;       // of all parts
  std::optional<exchange_type> exchange_;
};

}  // namespace mtp::inline MTP_ABI::detail
