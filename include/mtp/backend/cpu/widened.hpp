// Storage types such as bf16 on the CPU: operations receive copies of such arguments in the
// accumulator type, and their results are rounded back.
#pragma once

#include <tuple>
#include <type_traits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Elements of a view or weight that have a storage type.
template <class Element>
concept widened_element = storage_scalar<std::remove_const_t<Element>>;

/// The accumulator type, const if the element is.
template <widened_element Element, class A = accumulate_t<std::remove_const_t<Element>>>
using accumulator_like = std::conditional_t<std::is_const_v<Element>, const A, A>;

/// Replaces an argument of an operation while it computes in the accumulator type. Other arguments
/// replace themselves.
template <class Argument>
class widened {
 public:
  widened(cpu_context&, const Argument& argument) : argument_(argument) {}
  const Argument& get() const { return argument_; }
  void store(cpu_context&) const {}

 private:
  Argument argument_;
};

template <widened_element Element, class Shape>
class widened<view<Element, Shape, cpu>> {
  using stored_type = std::remove_const_t<Element>;
  using wide_type = accumulate_t<stored_type>;

 public:
  widened(cpu_context& context, const view<Element, Shape, cpu>& argument)
      : argument_(argument), memory_(argument.data() == nullptr ? nullptr : take(context)) {
    if (memory_ != nullptr) {
      cpu_elementwise_ops::copy(context, copies(), constant());
    }
  }
  view<accumulator_like<Element>, Shape, cpu> get() const { return {memory_, argument_.shape()}; }
  void store(cpu_context& context) const {
    if constexpr (!std::is_const_v<Element>) {
      if (memory_ != nullptr) {
        cpu_elementwise_ops::copy(
            context, argument_, view<const wide_type, Shape, cpu>(memory_, argument_.shape()));
      }
    }
  }

 private:
  wide_type* take(cpu_context& context) const {
    return context.workspace().template take<wide_type>(argument_.count());
  }
  view<wide_type, Shape, cpu> copies() const { return {memory_, argument_.shape()}; }
  view<const stored_type, Shape, cpu> constant() const { return argument_; }

  view<Element, Shape, cpu> argument_;
  wide_type* memory_;
};

/// All elements of a weight or a cache; the wide copy has the same layout.
template <widened_element Element>
class widened_storage {
 public:
  widened_storage(cpu_context& context, Element* data, index_t count)
      : elements_(context, vector_view<Element, cpu>(data, dims<1>{data == nullptr ? 0 : count})),
        exists_(data != nullptr) {}
  accumulator_like<Element>* data() const { return exists_ ? elements_.get().data() : nullptr; }
  void store(cpu_context& context) const { elements_.store(context); }

 private:
  widened<vector_view<Element, cpu>> elements_;
  bool exists_;
};

template <widened_element Element>
class widened<weight_view<Element, cpu>> {
 public:
  widened(cpu_context& context, const weight_view<Element, cpu>& argument)
      : argument_(argument), storage_(context, argument.data, argument.storage()) {}
  weight_view<accumulator_like<Element>, cpu> get() const {
    return {storage_.data(), argument_.outputs, argument_.inputs};
  }
  void store(cpu_context& context) const { storage_.store(context); }

 private:
  weight_view<Element, cpu> argument_;
  widened_storage<Element> storage_;
};

/// Whether an argument of an operation is widened.
template <class Argument>
inline constexpr bool is_widened = false;
template <widened_element Element, class Shape>
inline constexpr bool is_widened<view<Element, Shape, cpu>> = true;
template <widened_element Element>
inline constexpr bool is_widened<weight_view<Element, cpu>> = true;

/// The arguments of an operation, some of them widened.
template <class... Arguments>
concept some_widened = (is_widened<Arguments> || ...);

/// Calls function(arguments...) with wide copies of storage types, and rounds those back that are
/// not const.
template <class Function, class... Arguments>
void run_widened(cpu_context& context, const Function& function, const Arguments&... arguments) {
  const arena::scope scope(context.workspace());
  const std::tuple<widened<Arguments>...> all{widened<Arguments>(context, arguments)...};
  std::apply(
      [&](const auto&... each) {
        function(each.get()...);
        (each.store(context), ...);
      },
      all);
}

/// Bytes of workspace of the wide copy of `count` elements; none if arithmetic is done in S.
template <scalar S>
constexpr index_t widened_bytes(index_t count) {
  return storage_scalar<S> ? arena_bytes(count, sizeof(accumulate_t<S>)) : 0;
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
