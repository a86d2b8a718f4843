// What a step of a model does that ranks have parts of.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The parameters that a rank answers for when ranks add up numbers of all of them: those that are
/// divided; and rank 0 for those that every rank has. Ascending, with padding.
template <class Model, class Context>
std::vector<parameter_range> counted_ranges(const Context& context) {
  if constexpr (Model::config.tensor_parallel_size == 1) {
    return {{0, 0, Model::layout.storage}};
  } else {
    if (ranks_of("trainer", context, Model::config.tensor_parallel_size).rank() == 0) {
      return {{0, 0, Model::layout.storage}};
    }
    std::vector<parameter_range> ranges;
    Model::layout.visit([&](const std::string&, const parameter& p) {
      if (p.division != parameter_division::none) {
        ranges.push_back({p.offset, p.offset, p.storage});
      }
    });
    return ranges;
  }
}

/// The sum over the ranks of a model, in their order; one rank's is its own. Allocates nothing.
template <int Ranks, class Context>
double add_over_ranks(const char* function, const Context& context, double own) {
  if constexpr (Ranks == 1) {
    return own;
  } else {
    tensor_group& ranks = ranks_of(function, context, Ranks);
    std::array<double, Ranks> all{};
    all[static_cast<std::size_t>(ranks.rank())] = own;
    constexpr index_t bytes = sizeof(double);
    ranks.all_gather(reinterpret_cast<std::byte*>(all.data()), Ranks * bytes, bytes);
    double sum = 0;
    for (const double each : all) {
      sum += each;
    }
    return sum;
  }
}

}  // namespace mtp::inline MTP_ABI::detail
