// Which head a configuration has, and what every head has to offer.
#pragma once

#include <concepts>

#include "mtp/model/heads/independent.hpp"
#include "mtp/model/heads/none.hpp"
#include "mtp/model/heads/parallel.hpp"
#include "mtp/model/heads/recurrent.hpp"
#include "mtp/model/heads/sequential.hpp"
#include "mtp/model/heads/shared_logit.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {
template <head_kind Kind>
struct head_selector;
template <>
struct head_selector<head_kind::none> {
  template <model_config Config, class Backend, scalar S>
  using type = none_head<Config, Backend, S>;
};
template <>
struct head_selector<head_kind::sequential> {
  template <model_config Config, class Backend, scalar S>
  using type = sequential_head<Config, Backend, S>;
};
template <>
struct head_selector<head_kind::parallel> {
  template <model_config Config, class Backend, scalar S>
  using type = parallel_head<Config, Backend, S>;
};
template <>
struct head_selector<head_kind::independent> {
  template <model_config Config, class Backend, scalar S>
  using type = independent_head<Config, Backend, S>;
};
template <>
struct head_selector<head_kind::recurrent> {
  template <model_config Config, class Backend, scalar S>
  using type = recurrent_head<Config, Backend, S>;
};
template <>
struct head_selector<head_kind::shared_logit> {
  template <model_config Config, class Backend, scalar S>
  using type = shared_logit_head<Config, Backend, S>;
};
}  // namespace detail

/// The head of a configuration.
template <model_config Config, class Backend, scalar S>
using head_of = typename detail::head_selector<Config.head>::template type<Config, Backend, S>;

/// What a head offers: parameters (layout: make, visit), memory for training (activations::make),
/// one pass over whole sequences that hands every depth to a scorer and carries gradients back
/// (run), and a drafter for decoding.
template <class Head>
concept prediction_head = requires {
  typename Head::layout;
  typename Head::activations;
  typename Head::drafter;
  typename Head::pass_type;
};

}  // namespace mtp::inline MTP_ABI
