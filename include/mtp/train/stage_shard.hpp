// What a copy of a stage updates of it, and how the others get it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/stage_layout.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The shards of the `owned` parameters of a stage, for so many copies of it. Each is updated
/// element by element, so their borders change no bits.
constexpr shards shards_of_stage(index_t owned, int copies) {
  return shards(owned, copies, adamw_range_elements);
}

/// Throws mtp::error unless the model of a rank has the stage that it should have.
inline void check_stage(const pipeline_stage& stage, const pipeline_stage& expected, int rank) {
  check(stage == expected,
        "pipeline_trainer: rank ",
        rank,
        " has the stage plan_of(..).stage(",
        rank,
        ") with blocks [",
        expected.first,
        ", ",
        expected.last,
        "), but the model has [",
        stage.first,
        ", ",
        stage.last,
        ")");
}

/// All that a stage owns, or with ZeRO-1 this copy's shard of it, in the layout of the stage.
template <class Communicator, class Layout>
class stage_shard {
 public:
  /// `copies` are the ranks with this stage; null if there is but one.
  stage_shard(const Layout& at, Communicator* copies, bool is_sharded)
      : at_(&at),
        copies_(is_sharded ? copies : nullptr),
        all_(shards_of_stage(at.owned(), copies_ == nullptr ? 1 : copies_->size())) {}

  /// The first parameter that the stage owns.
  index_t owned() const { return at_->copy.count; }
  /// The first one of the shard.
  index_t begin() const { return owned() + all_.begin(copy()); }
  /// That behind its last one.
  index_t end() const { return owned() + all_.end(copy()); }

  /// Where its parameters are in the model: embedding and blocks, and the head's side. Locally they
  /// are counted from begin().
  std::array<parameter_range, 2> parts() const {
    std::array<parameter_range, 2> parts{at_->own_blocks, at_->own_head};
    for (parameter_range& part : parts) {
      const index_t first = (std::max)(part.local, begin());
      const index_t last = (std::min)(part.local + part.count, end());
      part = first < last
                 ? parameter_range{part.begin + (first - part.local), first - begin(), last - first}
                 : parameter_range{};
    }
    return parts;
  }

  /// The elements of the shard, of an array of all that the stage owns.
  template <class T, class Backend>
  parameter_array<T, Backend> of(parameter_array<T, Backend> owned_elements) const {
    return {owned_elements.data() + all_.begin(copy()), all_.size(copy())};
  }

  /// Every copy gets the parameters of all shards.
  template <class S, class Backend>
  void gather(parameter_array<S, Backend> values) const {
    if (copies_ == nullptr) return;
    copies_->all_gather(
        std::span<S>(values.data() + owned(), static_cast<std::size_t>(all_.count())), all_);
  }

 private:
  int copy() const { return copies_ == nullptr ? 0 : copies_->rank(); }

  const Layout* at_;
  Communicator* copies_;
  shards all_;
};

}  // namespace mtp::inline MTP_ABI::detail
