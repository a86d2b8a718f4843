// Reductions on the GPU. Contracts: ops/reduce.hpp.
#pragma once

#include <algorithm>
#include <cstddef>

#include "mtp/backend/cuda/reduce_kernels.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct cuda_reduce_ops {
  template <class Y, class X>
  static void sum(cuda_context& context, const Y& y, const X& x) {
    reduce(context, "sum", sum_of<X>{.mean = false}, y, x);
  }
  template <class Y, class X>
  static void mean(cuda_context& context, const Y& y, const X& x) {
    reduce(context, "mean", sum_of<X>{.mean = true}, y, x);
  }
  template <class Y, class X>
  static void maximum(cuda_context& context, const Y& y, const X& x) {
    reduce(context, "maximum", best_of<X>{.smallest = false, .skips_nan = false}, y, x);
  }
  template <class Y, class X>
  static void minimum(cuda_context& context, const Y& y, const X& x) {
    reduce(context, "minimum", best_of<X>{.smallest = true, .skips_nan = false}, y, x);
  }
  template <class Y, class X>
  static void argmax(cuda_context& context, const Y& y, const X& x) {
    reduce(context, "argmax", best_of<X>{.smallest = false, .skips_nan = true}, y, x);
  }

 private:
  template <class X>
  using sum_of = sum_reduction<accumulate_t<typename X::value_type>>;
  template <class X>
  using best_of = best_reduction<accumulate_t<typename X::value_type>>;

  template <class Reduction, class Y, class X>
  static void reduce(
      cuda_context& context, const char* name, const Reduction& reduction, const Y& y, const X& x) {
    if constexpr (Y::rank == 0) {
      reduce_all(context, name, reduction, y, x);
    } else if (!y.empty()) {
      typename X::strides_type strides{};  // y as if it had x's last dimension
      std::copy(y.strides().begin(), y.strides().end(), strides.begin());
      const view<typename Y::value_type, typename X::shape_type, cuda> repeated(
          y.data(), x.shape(), strides);
      const joined_dimensions<2> joined(true, repeated, x);
      const row_numbers numbers = joined.numbers(name);
      const auto rows = joined.places(1, x.data());
      reduce_rows(context,
                  name,
                  reduction,
                  numbers,
                  joined.places(0, y.data()),
                  rows,
                  range_of(rows, numbers.columns, rows_in_packs(numbers, rows)));
    }
  }

  template <class Reduction, class Y, class X>
  static void reduce_all(
      cuda_context& context, const char* name, const Reduction& reduction, const Y& y, const X& x) {
    using element = typename X::value_type;
    using partial = typename Reduction::partial;
    const joined_dimensions<1> joined(false, x);
    const row_numbers numbers = joined.numbers(name);
    const auto rows = joined.places(0, x.data());
    auto elements =
        range_of(rows, x.count(), numbers.dimensions == 0 && rows_in_packs(numbers, rows));
    elements.numbers = numbers;
    elements.rows = rows;
    const index_t chunk = reduce_policy::chunk<element>(reduce_policy::threads);
    const index_t chunks = ceil_div(x.count(), chunk);
    if (chunks <= 1) {
      reduce_rows(context,
                  name,
                  reduction,
                  row_numbers{},
                  row_places<typename Y::value_type>{y.data()},
                  row_places<const element>{x.data()},
                  elements);
      return;
    }
    const arena::scope scope(context.workspace());
    auto* const partials = context.workspace().template take<partial>(chunks);  // [chunks]
    launch(context,
           name,
           dim3(extent_of(chunks, name)),
           dim3(reduce_policy::threads),
           sizeof(partial) * team_reduction_size,
           reduce_chunks_kernel<Reduction, element>,
           reduction,
           partials,
           elements);
    launch(context,
           name,
           dim3(1),
           dim3(reduce_policy::threads),
           0,
           combine_chunks_kernel<Reduction, typename Y::value_type>,
           reduction,
           y.data(),
           partials,
           chunks,
           x.count());
  }

  template <class Reduction, class Y, class S>
  static void reduce_rows(cuda_context& context,
                          const char* name,
                          const Reduction& reduction,
                          const row_numbers& numbers,
                          const row_places<Y>& y,
                          const row_places<const S>& x,
                          const element_range<S>& elements) {
    team_shape teams = team_for(
        ceil_div(elements.count, pack<S>::width), reduce_policy::packs, reduce_policy::threads);
    if (teams.size > warp_size) {
      teams = {reduce_policy::threads, 1};
    }
    launch(context,
           name,
           dim3(extent_of(ceil_div(numbers.rows, teams.teams), name)),
           dim3(reduce_policy::threads),
           sizeof(typename Reduction::partial) *
               static_cast<std::size_t>(2 * team_reduction_size + reduce_policy::most_levels),
           reduce_rows_kernel<Reduction, Y, S>,
           reduction,
           numbers,
           y,
           x,
           elements,
           teams.size);
  }

  template <class S>
  static element_range<S> range_of(const row_places<const S>& first_row,
                                   index_t count,
                                   bool packed) {
    return {first_row.data, first_row.step, count, packed, {}, {}};
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
