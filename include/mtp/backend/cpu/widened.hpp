// bf16 on the CPU: operations that compute in f32 get f32 copies of their bf16 arguments, and what
// they wrote is rounded back.
#pragma once

#include <concepts>
#include <tuple>
#include <type_traits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// float where bf16 was, as const as it was.
template <class Element>
using float_like = std::conditional_t<std::is_const_v<Element>, const float, float>;

/// Stands for an argument of an operation while it computes in f32. Arguments without bf16 stand
/// for themselves.
template <class Argument>
class widened {
 public:
  widened(cpu_context&, const Argument& argument) : argument_(argument) {}
  const Argument& get() const { return argument_; }
  void store(cpu_context&) const {}

 private:
  Argument argument_;
};

template <class Element, class Shape>
requires(
    std::same_as<std::remove_const_t<Element>, bf16>) class widened<view<Element, Shape, cpu>> {
 public:
  widened(cpu_context& context, const view<Element, Shape, cpu>& argument)
      : argument_(argument), memory_(argument.data() == nullptr ? nullptr : take(context)) {
    if (memory_ != nullptr) {
      cpu_elementwise_ops::copy(context, copies(), constant());
    }
  }
  view<float_like<Element>, Shape, cpu> get() const { return {memory_, argument_.shape()}; }
  void store(cpu_context& context) const {
    if constexpr (!std::is_const_v<Element>) {
      if (memory_ != nullptr) {
        cpu_elementwise_ops::copy(
            context, argument_, view<const float, Shape, cpu>(memory_, argument_.shape()));
      }
    }
  }

 private:
  float* take(cpu_context& context) const {
    return context.workspace().template take<float>(argument_.count());
  }
  view<float, Shape, cpu> copies() const { return {memory_, argument_.shape()}; }
  view<const bf16, Shape, cpu> constant() const { return argument_; }

  view<Element, Shape, cpu> argument_;
  float* memory_;
};

/// All elements of a weight or a cache; both have the layout of their f32 counterparts.
template <class Element>
class widened_storage {
 public:
  widened_storage(cpu_context& context, Element* data, index_t count)
      : elements_(context, vector_view<Element, cpu>(data, dims<1>{data == nullptr ? 0 : count})),
        exists_(data != nullptr) {}
  float_like<Element>* data() const { return exists_ ? elements_.get().data() : nullptr; }
  void store(cpu_context& context) const { elements_.store(context); }

 private:
  widened<vector_view<Element, cpu>> elements_;
  bool exists_;
};

template <class Element>
requires(
    std::same_as<std::remove_const_t<Element>, bf16>) class widened<weight_view<Element, cpu>> {
 public:
  widened(cpu_context& context, const weight_view<Element, cpu>& argument)
      : argument_(argument),
        storage_(context, argument.data, weight_storage<bf16>(argument.outputs, argument.inputs)) {}
  weight_view<float_like<Element>, cpu> get() const {
    return {storage_.data(), argument_.outputs, argument_.inputs};
  }
  void store(cpu_context& context) const { storage_.store(context); }

 private:
  weight_view<Element, cpu> argument_;
  widened_storage<Element> storage_;
};

/// Whether an argument of an operation holds bf16.
template <class Argument>
inline constexpr bool holds_bf16 = false;
template <class Element, class Shape>
inline constexpr bool holds_bf16<view<Element, Shape, cpu>> =
    std::same_as<std::remove_const_t<Element>, bf16>;
template <class Element>
inline constexpr bool holds_bf16<weight_view<Element, cpu>> =
    std::same_as<std::remove_const_t<Element>, bf16>;

/// Arguments of an operation, of which some hold bf16.
template <class... Arguments>
concept some_bf16 = (holds_bf16<Arguments> || ...);

/// function(arguments...) with f32 copies in place of bf16; what is not const is rounded back.
template <class Function, class... Arguments>
void in_float(cpu_context& context, const Function& function, const Arguments&... arguments) {
  const arena::scope scope(context.workspace());
  const std::tuple<widened<Arguments>...> all{widened<Arguments>(context, arguments)...};
  std::apply(
      [&](const auto&... each) {
        function(each.get()...);
        (each.store(context), ...);
      },
      all);
}

/// Bytes of workspace that the f32 copy of `count` elements takes; none where S is not bf16.
template <scalar S>
constexpr index_t widened_bytes(index_t count) {
  return std::same_as<S, bf16> ? arena_bytes(count, sizeof(float)) : 0;
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
