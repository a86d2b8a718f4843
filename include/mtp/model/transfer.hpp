// Copies parameters between models: to another backend or element type, or under another head.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/refusal.hpp"
#include "mtp/model/divided_parameters.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// All elements of a parameter array on the host, in the layout of its backend.
template <class S, class Backend>
std::vector<std::remove_const_t<S>> host_copy(const parameter_array<S, Backend>& array) {
  std::vector<std::remove_const_t<S>> host(static_cast<std::size_t>(array.count()));
  backend_traits<Backend>::copy_to_host(host.data(), array.data(), host.size() * sizeof(S));
  return host;
}

/// Copies the parameters that `from_at` visits to those that `to_at` visits. Both visit equally
/// many, of the same shapes, in the same order. Other parameters of `to` stay.
template <class ToLayout, class To, scalar T, class FromLayout, class From, scalar F>
void copy_visited(const ToLayout& to_at,
                  const parameter_array<T, To>& to,
                  const FromLayout& from_at,
                  const parameter_array<const F, From>& from) {
  const auto source = host_copy(from);
  auto target = host_copy(to);
  std::vector<parameter> places;
  to_at.visit([&](const std::string&, const parameter& p) { places.push_back(p); });
  std::size_t next = 0;
  from_at.visit([&](const std::string&, const parameter& p) {
    const parameter& place = places[next++];
    for (index_t i = 0; i < p.count(); ++i) {
      const F value = source[static_cast<std::size_t>(place_of<From, F>(p, i))];
      T& element = target[static_cast<std::size_t>(place_of<To, T>(place, i))];
      if constexpr (std::is_same_v<F, T>) {
        element = value;
      } else {
        element = static_cast<T>(static_cast<accumulate_t<T>>(value));
      }
    }
  });
  backend_traits<To>::copy_from_host(to.data(), target.data(), target.size() * sizeof(T));
}

}  // namespace detail

/// Whether two configurations differ only in `prediction`. Then their trunks have the same
/// parameters and compute the same.
constexpr bool same_trunk(model_config a, const model_config& b) {
  a.prediction = b.prediction;
  return a == b;
}

/// Copies the parameters of `from` to `to`, a model of the same configuration on another backend or
/// with another element type. Between equal element types all bits stay; otherwise values are
/// rounded to nearest, f64 to bf16 via f32.
template <model_config Config, class To, scalar T, class From, scalar F>
void copy_parameters(language_model<Config, To, T>& to,
                     const language_model<Config, From, F>& from) {
  detail::copy_visited(language_model<Config, To, T>::layout,
                       to.values(),
                       language_model<Config, From, F>::layout,
                       from.values());
}

/// Copies the trunk of `from` to `to` and leaves the head of `to` as it is. A trained model gets
/// heads this way. Bits and rounding as in copy_parameters. The next-token logits of both models
/// are then the same, and stay so while the head is trained with gradient_scope::heads_only.
///
/// With `parallel`, the trunk's last block is head 1 and is copied as well.
template <model_config ToConfig, class To, scalar T, model_config FromConfig, class From, scalar F>
void copy_trunk(language_model<ToConfig, To, T>& to,
                const language_model<FromConfig, From, F>& from) {
  static_assert(same_trunk(ToConfig, FromConfig),
                "copy_trunk: the two configurations may differ in their part prediction only");
  detail::copy_visited(language_model<ToConfig, To, T>::trunk_layout(),
                       to.values(),
                       language_model<FromConfig, From, F>::trunk_layout(),
                       from.values());
}

namespace detail {

/// One module of a head, as copy_visited wants it.
template <class Module>
struct visited_module {
  const Module* at;

  template <class Visitor>
  void visit(Visitor&& visitor) const {
    at->visit("", visitor);
  }
};

/// Whether a head consists of modules that recycle what the one before gave.
constexpr bool has_modules(const prediction_config& head) {
  return head.kind == head_kind::sequential || head.kind == head_kind::recurrent;
}

/// Whether two heads differ only in how many depths there are and which of them share parameters.
constexpr bool same_modules(prediction_config a, const prediction_config& b) {
  a.kind = b.kind;
  a.depth = b.depth;
  return a == b;
}

}  // namespace detail

/// Copies a model with a sequential or recurrent head to one that drafts further: its module m gets
/// module m mod M of the M modules of `from`. A head that was trained for one token goes on with
/// what it gave itself, as DeepSeek-V3's does in released engines; chain and recycle_tap say what
/// that is, and need not be those of `from`. Drafts are worse there than where the head was
/// trained, and the text is the same. Bits and rounding as in copy_parameters.
template <model_config ToConfig, class To, scalar T, model_config FromConfig, class From, scalar F>
void copy_recycled(language_model<ToConfig, To, T>& to,
                   const language_model<FromConfig, From, F>& from) {
  static_assert(same_trunk(ToConfig, FromConfig),
                "copy_recycled: the two configurations may differ in their part prediction only");
  static_assert(
      detail::has_modules(ToConfig.prediction) && detail::has_modules(FromConfig.prediction),
      "copy_recycled: both heads must be sequential or recurrent");
  static_assert(
      [] {
        prediction_config head = ToConfig.prediction;
        head.recycle_tap = FromConfig.prediction.recycle_tap;
        head.chain = FromConfig.prediction.chain;
        return detail::same_modules(head, FromConfig.prediction);
      }(),
      "copy_recycled: the heads may differ in kind, depth, recycle_tap and chain only");
  copy_trunk(to, from);
  const auto& to_modules = to.head_layout().parts;
  const auto& from_modules = from.head_layout().parts;
  for (std::size_t m = 0; m < to_modules.size(); ++m) {
    using module_type = std::remove_cvref_t<decltype(to_modules[m])>;
    using source_type = std::remove_cvref_t<decltype(from_modules[m])>;
    detail::copy_visited(
        detail::visited_module<module_type>{&to_modules[m]},
        to.values(),
        detail::visited_module<source_type>{&from_modules[m % from_modules.size()]},
        from.values());
  }
}

/// @cond
// A message for calls that match no declaration above.
template <class Call = void>
void copy_parameters(detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "copy_parameters: expected two language models of one configuration");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI
