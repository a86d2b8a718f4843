// The ranks of a communicator as those that compute one model together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/tensor_group.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// A tensor_group whose ranks are those of a communicator of hosts, which must outlive it.
///
///     mtp::tensor_ranks ranks(group);
///     mtp::context<mtp::cpu> context;
///     context.join(ranks);
///     mtp::language_model<mtp::tensor_parallel(config, 2), mtp::cpu> model(context,
///     mtp::seed{42});
template <host_communicator C>
class tensor_ranks final : public host_tensor_group {
 public:
  /// The ranks of `group`.
  explicit tensor_ranks(C& group) : host_tensor_group(group.rank(), group.size()), group_(&group) {}

  void all_gather(std::byte* whole, index_t total, index_t unit) override {
    group_->all_gather(std::span(whole, static_cast<std::size_t>(total)),
                       shards(total, size(), unit));
  }

  void exchange(const std::byte* whole, std::byte* received, index_t total, index_t unit) override {
    const shards parts(total, size(), unit);
    const index_t own = parts.size(rank());
    requests_.clear();
    for (int step = 0; step < size(); ++step) {  // ranks begin with different ones
      const int from = (rank() + size() - step) % size();
      std::byte* const to = received + from * own;
      if (from == rank()) {
        std::copy_n(whole + parts.begin(from), own, to);
      } else if (own > 0) {
        requests_.push_back(group_->start_receive(
            std::span(to, static_cast<std::size_t>(own)), from, detail::tensor_tag));
      }
    }
    for (int step = 1; step < size(); ++step) {
      const int to = (rank() + step) % size();
      if (parts.size(to) > 0) {
        requests_.push_back(group_->start_send(
            std::span(whole + parts.begin(to), static_cast<std::size_t>(parts.size(to))),
            to,
            detail::tensor_tag));
      }
    }
    for (auto& each : requests_) each.wait();
    requests_.clear();
  }

 private:
  C* group_;
  std::vector<typename C::request> requests_;
};

}  // namespace mtp::inline MTP_ABI
