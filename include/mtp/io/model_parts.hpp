// Checkpoints of models that ranks have parts of: files have the whole model.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/io/first_rank.hpp"
#include "mtp/model/divide.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Whether a run trains a part of a model.
template <class Run>
inline constexpr bool has_a_part = Run::model_type::config.tensor_parallel_size > 1;

/// The ranks that have parts of a model, as on_first_rank speaks to ranks.
class part_speaker {
 public:
  explicit part_speaker(tensor_group& ranks) : ranks_(&ranks) {}
  int rank() const { return ranks_->rank(); }
  int size() const { return ranks_->size(); }
  /// Every rank gets the values of `root`.
  template <class T>
  void broadcast(std::span<T> values, int root) {
    const auto bytes = static_cast<index_t>(values.size_bytes());
    if (bytes == 0) return;
    std::vector<T> all(values.size() * static_cast<std::size_t>(size()));
    const auto block = [&](int rank) {
      return all.begin() + static_cast<std::ptrdiff_t>(values.size()) * rank;
    };
    std::copy(values.begin(), values.end(), block(rank()));
    ranks_->all_gather(reinterpret_cast<std::byte*>(all.data()), size() * bytes, bytes);
    std::copy_n(block(root), values.size(), values.begin());
  }

 private:
  tensor_group* ranks_;
};

/// work(sign of life) where the file is written: of the ranks that have the parts of one model, on
/// the first. `life` is the sign for those that have the same part of copies.
template <class Run, class Life, class Work>
void on_first_part(Run& run, Life& life, const Work& work) {
  if constexpr (has_a_part<Run>) {
    part_speaker speaker(run.ranks());
    on_first_rank(speaker, work, [&life] { life(); });
  } else {
    work(life);
  }
}

/// work() on a rank for each part. If one of them throws, all do: it its exception, the others an
/// mtp::error that names it.
template <class Run, class Work>
void on_every_part(Run& run, const Work& work) {
  if constexpr (has_a_part<Run>) {
    std::exception_ptr thrown;
    try {
      work();
    } catch (...) {
      thrown = std::current_exception();
    }
    const auto failed = mtp::detail::from_all_ranks(run.ranks(), std::int32_t{thrown ? 1 : 0});
    if (thrown) std::rethrow_exception(thrown);
    for (std::size_t rank = 0; rank < failed.size(); ++rank) {
      check(failed[rank] == 0,
            "checkpoint: rank ",
            rank,
            " of those that have the parts of the model failed");
    }
  } else {
    work();
  }
}

/// What this rank has of an array of a file.
template <class Run, class T>
std::vector<T> own_part(Run& run, std::vector<T> whole) {
  if constexpr (has_a_part<Run>) {
    using model_type = typename Run::model_type;
    std::vector<T> part(static_cast<std::size_t>(model_type::layout.storage));
    mtp::detail::divide_array<model_type, T>(part, whole, run.ranks().rank(), run.ranks().size());
    return part;
  } else {
    return whole;
  }
}

}  // namespace mtp::inline MTP_ABI::io::detail
