// Copies between a whole model and the parts of it that ranks have.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/model/divided_parameters.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/transfer.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// part (=) what a rank has of `whole`: arrays of all parameters on the host, in the layouts of a
/// model with a tensor_parallel_size and of the whole model.
template <class Model, class Element>
void divide_array(std::span<Element> part, std::span<const Element> whole, int rank, int ranks) {
  using B = typename Model::backend_type;
  for_each_divided<Model>([&](const parameter& p, const parameter& own) {
    for (index_t i = 0; i < own.count(); ++i) {
      const index_t from = index_in_whole(own, i, rank, ranks);
      part[static_cast<std::size_t>(place_of<B, Element>(own, i))] =
          whole[static_cast<std::size_t>(place_of<B, Element>(p, from))];
    }
  });
}

/// whole (=) the parts of all ranks, on every rank that has room for it: others pass nothing.
template <class Model, class Element>
void gather_array(std::span<Element> whole, std::span<const Element> part, tensor_group& ranks) {
  using B = typename Model::backend_type;
  std::vector<Element> all;  // parts of a parameter, rank by rank
  for_each_divided<Model>([&](const parameter& p, const parameter& own) {
    const auto count = static_cast<std::size_t>(own.count());
    all.resize(count * static_cast<std::size_t>(ranks.size()));
    const auto block = [&](int rank) {
      return all.data() + static_cast<std::size_t>(rank) * count;
    };
    for (index_t i = 0; i < own.count(); ++i) {
      block(ranks.rank())[i] = part[static_cast<std::size_t>(place_of<B, Element>(own, i))];
    }
    const auto bytes = static_cast<index_t>(count * sizeof(Element));
    ranks.all_gather(reinterpret_cast<std::byte*>(all.data()), ranks.size() * bytes, bytes);
    for (int rank = 0; rank < ranks.size() && !whole.empty(); ++rank) {
      for (index_t i = 0; i < own.count(); ++i) {
        const index_t to = index_in_whole(own, i, rank, ranks.size());
        whole[static_cast<std::size_t>(place_of<B, Element>(p, to))] = block(rank)[i];
      }
    }
  });
}

}  // namespace detail

/// to (=) the part of this rank of a whole model, bit by bit. Nothing is sent. Throws mtp::error
/// unless `ranks` are as many as the model has.
template <model_config Part, class Backend, scalar S, model_config Whole>
void divide_parameters(language_model<Part, Backend, S>& to,
                       const language_model<Whole, Backend, S>& from,
                       const tensor_group& ranks) {
  static_assert(
      tensor_parallel(Part, 1) == Whole,
      "divide_parameters: expected a model of tensor_parallel(config, ranks), then one of "
      "config");
  check(ranks.size() == Part.tensor_parallel_size,
        "divide_parameters: expected a tensor_group of ",
        Part.tensor_parallel_size,
        " ranks, got ",
        ranks.size());
  const auto whole = detail::host_copy(from.values());
  auto part = detail::host_copy(to.values());
  detail::divide_array<language_model<Part, Backend, S>>(
      std::span<S>(part), std::span<const S>(whole), ranks.rank(), ranks.size());
  backend_traits<Backend>::copy_from_host(to.values().data(), part.data(), part.size() * sizeof(S));
}

/// to (=) the whole model of which each rank has a part, bit by bit, on every rank. All ranks call
/// it. Throws mtp::error unless `ranks` are as many as the model has, and as their engine does.
template <model_config Whole, class Backend, scalar S, model_config Part>
void gather_parameters(language_model<Whole, Backend, S>& to,
                       const language_model<Part, Backend, S>& from,
                       tensor_group& ranks) {
  static_assert(tensor_parallel(Part, 1) == Whole,
                "gather_parameters: expected a model of config, then one of "
                "tensor_parallel(config, ranks)");
  check(ranks.size() == Part.tensor_parallel_size,
        "gather_parameters: expected a tensor_group of ",
        Part.tensor_parallel_size,
        " ranks, got ",
        ranks.size());
  const auto part = detail::host_copy(from.values());
  auto whole = detail::host_copy(to.values());
  detail::gather_array<language_model<Part, Backend, S>>(
      std::span<S>(whole), std::span<const S>(part), ranks);
  backend_traits<Backend>::copy_from_host(
      to.values().data(), whole.data(), whole.size() * sizeof(S));
}

}  // namespace mtp::inline MTP_ABI
