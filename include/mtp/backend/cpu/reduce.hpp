// Reductions on the CPU: blocks of elements in row-major order, combined in pairs.
//
// A row is a range of elements in row-major order, and so is the whole view, so one procedure
// serves both. The grouping of elements depends on their number only.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Elements of a block; the buffer for them is on the stack.
inline constexpr index_t reduce_block = 1024;

/// The sum in 16 interleaved chains, on machines with any vectors.
template <real Real>
inline Real sum_block(const Real* x, index_t count) {
  constexpr index_t chains = 16;
  Real sum[chains] = {};
  index_t i = 0;
  for (; i + chains <= count; i += chains) {
    for (index_t j = 0; j < chains; ++j) {
      sum[j] += x[i + j];
    }
  }
  for (index_t j = 0; i + j < count; ++j) {
    sum[j] += x[i + j];
  }
  for (index_t half = chains / 2; half > 0; half /= 2) {
    for (index_t j = 0; j < half; ++j) {
      sum[j] += sum[j + half];
    }
  }
  return sum[0];
}

template <real Real>
struct sum_reduction {
  using partial = Real;
  static Real nothing() { return 0; }
  static Real block(const Real* x, index_t, index_t count) { return sum_block(x, count); }
  static Real combine(Real a, Real b) { return a + b; }
  static Real finish(Real sum, index_t) { return sum; }
};

template <real Real>
struct mean_reduction : sum_reduction<Real> {
  static Real finish(Real sum, index_t count) { return sum / static_cast<Real>(count); }
};

/// The largest number of x for Sign 1, the smallest for -1; infinite if there is none. It may be
/// either of two zeros, and NaN is skipped, because chains that compilers vectorize cannot tell.
template <int Sign, real Real>
inline Real extreme_number(const Real* x, index_t count) {
  constexpr index_t chains = 16;
  Real best[chains];
  std::fill_n(best, chains, -Sign * std::numeric_limits<Real>::infinity());
  const auto better = [](Real a, Real b) { return Sign > 0 ? a > b : a < b; };
  index_t i = 0;
  for (; i + chains <= count; i += chains) {
    for (index_t j = 0; j < chains; ++j) {
      best[j] = better(x[i + j], best[j]) ? x[i + j] : best[j];
    }
  }
  for (; i < count; ++i) {
    best[0] = better(x[i], best[0]) ? x[i] : best[0];
  }
  return *std::max_element(best, best + chains, [&](Real a, Real b) { return better(b, a); });
}

template <real Real>
inline bool has_nan(const Real* x, index_t count) {
  int found = 0;
  for (index_t i = 0; i < count; ++i) {
    found |= x[i] != x[i];
  }
  return found != 0;
}

/// Index of the first element that equals `wanted`, or count.
template <real Real>
inline index_t find_first(const Real* x, index_t count, Real wanted) {
  constexpr index_t step = 64;
  index_t i = 0;
  for (; i + step <= count; i += step) {
    int found = 0;
    for (index_t j = 0; j < step; ++j) {
      found |= x[i + j] == wanted;
    }
    if (found != 0) {
      break;
    }
  }
  return std::find(x + i, x + count, wanted) - x;
}

/// The largest element for Sign 1, the smallest for -1. A NaN stays; of equal elements the first
/// stays.
template <real Real, int Sign>
struct extreme_reduction {
  using partial = Real;
  static Real nothing() { return -Sign * std::numeric_limits<Real>::infinity(); }
  static Real combine(Real a, Real b) {
    const bool better = Sign > 0 ? b > a : b < a;
    return better || b != b ? b : a;
  }
  static Real block(const Real* x, index_t, index_t count) {
    const Real number = extreme_number<Sign>(x, count);
    if (number != 0 && !has_nan(x, count)) {
      return number;
    }
    Real best = nothing();
    for (index_t i = 0; i < count; ++i) {
      best = combine(best, x[i]);
    }
    return best;
  }
  static Real finish(Real best, index_t) { return best; }
};

template <real Real>
struct argmax_reduction {
  struct partial {
    Real value;
    index_t index;
  };
  static partial nothing() { return {-std::numeric_limits<Real>::infinity(), -1}; }
  static partial block(const Real* x, index_t first, index_t count) {
    const Real largest = extreme_number<1>(x, count);
    // -inf if there is nothing larger: then the first number wins, and NaN equals nothing.
    const index_t at = find_first(x, count, largest);
    return at < count ? partial{x[at], first + at} : nothing();
  }
  static partial combine(partial a, partial b) { return b.value > a.value || a.index < 0 ? b : a; }
  static index_t finish(partial best, index_t) { return best.index; }
};

/// Combines leaf(first) ... leaf(first + count - 1), halves first. count >= 1.
template <class Reduction, class Leaf>
typename Reduction::partial combine_pairs(index_t first, index_t count, const Leaf& leaf) {
  if (count == 1) {
    return leaf(first);
  }
  const index_t half = count / 2;
  return Reduction::combine(combine_pairs<Reduction>(first, half, leaf),
                            combine_pairs<Reduction>(first + half, count - half, leaf));
}

/// Elements [begin, end) of x in row-major order, widened and contiguous: in place, or in `buffer`.
template <class X, real Real>
const Real* gather(const X& x, index_t begin, index_t end, Real* buffer) {
  using element = typename X::value_type;
  if constexpr (X::rank == 0) {
    *buffer = widen(*x.data());
    return buffer;
  } else {
    const index_t columns = x.extent(X::rank - 1), step = x.stride(X::rank - 1);
    for (index_t i = begin; i < end;) {
      const index_t column = i % columns;
      const index_t count = (std::min)(end - i, columns - column);
      const element* from = x.data() + leading_offset(x, X::rank - 1, i / columns) + column * step;
      if constexpr (std::same_as<element, Real>) {
        if (step == 1 && count == end - begin) {
          return from;
        }
      }
      for (index_t j = 0; j < count; ++j) {
        buffer[i - begin + j] = widen(from[j * step]);
      }
      i += count;
    }
    return buffer;
  }
}

/// The reduction of one block of elements [begin, end), at most reduce_block; its first index is
/// `index`.
template <class Reduction, class X>
typename Reduction::partial reduce_one_block(const X& x,
                                             index_t begin,
                                             index_t end,
                                             index_t index) {
  accumulate_t<typename X::value_type> buffer[static_cast<std::size_t>(reduce_block)];
  return Reduction::block(gather(x, begin, end, buffer), index, end - begin);
}

/// The reduction of elements [begin, begin + count), on one thread.
template <class Reduction, class X>
typename Reduction::partial reduce_range(const X& x, index_t begin, index_t count) {
  if (count == 0) {
    return Reduction::nothing();
  }
  return combine_pairs<Reduction>(0, ceil_div(count, reduce_block), [&](index_t block) {
    const index_t first = block * reduce_block;
    return reduce_one_block<Reduction>(
        x, begin + first, begin + (std::min)(first + reduce_block, count), first);
  });
}

/// The reduction of all elements, grouped as in reduce_range, on all threads.
template <class Reduction, class X>
typename Reduction::partial reduce_all(cpu_context& context, const X& x) {
  using partial = typename Reduction::partial;
  const index_t count = x.count(), blocks = ceil_div(count, reduce_block);
  constexpr index_t grain = elements_per_task / reduce_block;
  if (blocks <= grain) {
    return reduce_range<Reduction>(x, 0, count);
  }
  const arena::scope scope(context.workspace());
  partial* partials = context.workspace().template take<partial>(blocks);  // [blocks]
  context.parallel_ranges(blocks, grain, [&](index_t begin, index_t end, int) {
    for (index_t block = begin; block < end; ++block) {
      const index_t first = block * reduce_block;
      partials[block] =
          reduce_one_block<Reduction>(x, first, (std::min)(first + reduce_block, count), first);
    }
  });
  return combine_pairs<Reduction>(0, blocks, [&](index_t block) { return partials[block]; });
}

template <class Reduction, class Y, class X>
void reduce(cpu_context& context, const Y& y, const X& x) {
  using element = typename Y::value_type;
  if constexpr (Y::rank == 0) {
    *y.data() = narrow<element>(Reduction::finish(reduce_all<Reduction>(context, x), x.count()));
  } else {
    const index_t columns = x.extent(X::rank - 1);
    const index_t grain =
        (std::max<index_t>)(1, elements_per_task / (std::max<index_t>)(1, columns));
    context.parallel_ranges(y.count(), grain, [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const auto result = reduce_range<Reduction>(x, row * columns, columns);
        y.data()[leading_offset(y, Y::rank, row)] =
            narrow<element>(Reduction::finish(result, columns));
      }
    });
  }
}

struct cpu_reduce_ops {
  template <class Y, class X>
  static void sum(cpu_context& context, const Y& y, const X& x) {
    reduce<sum_reduction<accumulate_t<typename X::value_type>>>(context, y, x);
  }
  template <class Y, class X>
  static void mean(cpu_context& context, const Y& y, const X& x) {
    reduce<mean_reduction<accumulate_t<typename X::value_type>>>(context, y, x);
  }
  template <class Y, class X>
  static void maximum(cpu_context& context, const Y& y, const X& x) {
    reduce<extreme_reduction<accumulate_t<typename X::value_type>, 1>>(context, y, x);
  }
  template <class Y, class X>
  static void minimum(cpu_context& context, const Y& y, const X& x) {
    reduce<extreme_reduction<accumulate_t<typename X::value_type>, -1>>(context, y, x);
  }
  template <class Y, class X>
  static void argmax(cpu_context& context, const Y& y, const X& x) {
    reduce<argmax_reduction<accumulate_t<typename X::value_type>>>(context, y, x);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
