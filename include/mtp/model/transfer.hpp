// Models from one backend to another.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/model/language_model.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// All elements of an array of parameters, on the host and in the layout of its backend.
template <class S, class Backend>
std::vector<std::remove_const_t<S>> host_copy(const parameter_array<S, Backend>& array) {
  std::vector<std::remove_const_t<S>> host(static_cast<std::size_t>(array.count()));
  backend_traits<Backend>::copy_to_host(host.data(), array.data(), host.size() * sizeof(S));
  return host;
}

/// Where element i, counted in row-major order, of a parameter lies in an array of all of them.
template <class Backend, scalar S>
constexpr index_t place_of(const parameter& p, index_t i) {
  return p.offset + (p.is_vector() ? i
                                   : backend_traits<Backend>::template weight_offset<S>(
                                         i / p.inputs, i % p.inputs, p.outputs, p.inputs));
}

}  // namespace detail

/// Gives `to` the parameters of `from`: the same configuration on another backend, or in another
/// element type. Between equal element types every bit stays; else values are rounded to nearest,
/// from f64 to bf16 by way of f32.
template <model_config Config, class To, scalar T, class From, scalar F>
void copy_parameters(language_model<Config, To, T>& to,
                     const language_model<Config, From, F>& from) {
  using to_type = language_model<Config, To, T>;
  using from_type = language_model<Config, From, F>;
  const auto source = detail::host_copy(from.values());
  std::vector<T> target(static_cast<std::size_t>(to_type::layout.storage),
                        static_cast<T>(accumulate_t<T>{0}));
  std::vector<parameter> places;
  to_type::layout.visit([&](const std::string&, const parameter& p) { places.push_back(p); });
  std::size_t next = 0;
  from_type::layout.visit([&](const std::string&, const parameter& p) {
    const parameter& place = places[next++];
    for (index_t i = 0; i < p.count(); ++i) {
      const F value = source[static_cast<std::size_t>(detail::place_of<From, F>(p, i))];
      T& element = target[static_cast<std::size_t>(detail::place_of<To, T>(place, i))];
      if constexpr (std::is_same_v<F, T>) {
        element = value;
      } else {
        element = static_cast<T>(static_cast<accumulate_t<T>>(value));
      }
    }
  });
  backend_traits<To>::copy_from_host(to.values().data(), target.data(), target.size() * sizeof(T));
}

}  // namespace mtp::inline MTP_ABI
