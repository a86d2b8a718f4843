// The groups of a rank among copies of a pipeline, and what their ranks tell each other in a step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/train/expert_balance.hpp"
#include "mtp/train/run_description.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Of R ranks, P are the stages of a copy, and R / P have the same stage.
template <class Communicator>
class stage_groups {
 public:
  /// All ranks make it at the same time, before anything that one of them may refuse. `group` must
  /// outlive it. Throws mtp::error, on all ranks, if they want different numbers of copies. A
  /// number that does not divide R makes no groups; pipeline_plan refuses it.
  stage_groups(Communicator& group, int count) : all_(&group) {
    if (group.size() == 1) return;
    agree(group, {{"pipeline.copies", to_text(count)}});
    if (count <= 1 || group.size() % count != 0) return;
    const int P = group.size() / count;
    const int copy = group.rank() / P, stage = group.rank() % P;
    stages_ = std::make_unique<Communicator>(group.split(copy, stage));
    copies_ = std::make_unique<Communicator>(group.split(stage, copy));
  }

  /// All ranks.
  Communicator& all() const { return *all_; }
  /// The stages of this rank's copy, in order.
  Communicator& stages() const { return stages_ ? *stages_ : *all_; }
  /// The ranks with this stage, in the order of copies; null if there is but one.
  Communicator* copies() const { return copies_.get(); }
  /// This rank's copy.
  int copy() const { return copies_ ? copies_->rank() : 0; }

 private:
  Communicator* all_;
  std::unique_ptr<Communicator> stages_, copies_;
};

/// What a step has found, on its way to all ranks.
template <int Depth, class Communicator>
class stage_results {
 public:
  using report_type = loss_report<Depth>;

  stage_results(const stage_groups<Communicator>& groups, const pipeline_copies& copies, bool heads)
      : all_(&groups.all()),
        stages_(&groups.stages()),
        others_(groups.copies()),
        copy_(groups.copy()),
        copies_(copies),
        reports_(heads ? static_cast<std::size_t>(copies.rounds() * copies.count) : 0),
        loads_(static_cast<std::size_t>(groups.stages().size())),
        balances_(static_cast<std::size_t>(groups.all().size()), 0.0) {}

  /// Takes the report of this copy's pass in a round, where the head is.
  void add(index_t round, const report_type& report) {
    reports_[place_of(copy_, round)] = report;
    add_balance(report.balance);
  }
  /// The reports of all copies come together where heads are. Then of_pass(k) is that of pass k.
  void gather_reports() {
    if (others_ != nullptr) {
      others_->all_gather(std::span<report_type>(reports_),
                          shards(static_cast<index_t>(reports_.size()), copies_.count));
    }
  }
  const report_type& of_pass(index_t k) const {
    return reports_[place_of(static_cast<int>(k % copies_.count), k / copies_.count)];
  }

  /// The loads of the experts of all stages, of which this one has `own`.
  expert_loads loads_of_all(const expert_loads& own) {
    Communicator& stages = *stages_;
    loads_[static_cast<std::size_t>(stages.rank())] = own;
    stages.all_gather(std::span<expert_loads>(loads_), shards(stages.size(), stages.size()));
    expert_loads all;
    for (const expert_loads& each : loads_) {
      if (each.layers == 0) continue;
      all.smallest = all.layers == 0 ? each.smallest : (std::min)(all.smallest, each.smallest);
      all.largest = (std::max)(all.largest, each.largest);
      all.layers += each.layers;
    }
    return all;
  }

  /// Adds what this rank has of the balance of experts, in a pass of the step.
  void add_balance(double value) { own_balance_ += value; }
  /// The balance of the step, which all ranks have added to; the next one begins.
  double balance_of_all() {
    Communicator& all = *all_;
    balances_[static_cast<std::size_t>(all.rank())] = std::exchange(own_balance_, 0.0);
    all.all_gather(std::span<double>(balances_), shards(all.size(), all.size()));
    return std::accumulate(balances_.begin(), balances_.end(), 0.0);
  }

  /// All stages get what the rank with the head has.
  template <transferable T>
  void broadcast(T& value, int head_rank) {
    stages_->broadcast(std::span<T>(&value, 1), head_rank);
  }

 private:
  /// Copy by copy.
  std::size_t place_of(int copy, index_t round) const {
    return static_cast<std::size_t>(copy * copies_.rounds() + round);
  }

  Communicator* all_;     // ranks
  Communicator* stages_;  // of this copy
  Communicator* others_;  // copies of this stage; null if there is but one
  int copy_;
  pipeline_copies copies_;
  std::vector<report_type> reports_;  // of all passes, where the head is
  std::vector<expert_loads> loads_;   // of all stages
  double own_balance_ = 0;            // of the passes of the step so far
  std::vector<double> balances_;      // of all ranks
};

}  // namespace mtp::inline MTP_ABI::detail
