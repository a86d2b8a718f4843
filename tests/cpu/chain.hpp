// What the CPU backend's products promise of each element, element by element.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"

namespace mtp::test::cpu_products {

/// sum + a b, as the vectors of this file do it: in one rounding where the processor can.
template <class Real>
Real multiply_add(Real a, Real b, Real sum) {
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
  return std::fma(a, b, sum);
#else
  const volatile Real rounded = a * b;
  return sum + rounded;
#endif
}

/// sum + a(0) b(0) + .. + a(count - 1) b(count - 1), in the order of the products of rows of Left.
/// The numbers are not so small that an instruction for bf16 makes them zeros.
template <class Left, class Real, class A, class B>
Real chain(Real sum, index_t count, const A& a, const B& b) {
  if constexpr (std::is_same_v<Left, bf16>) {
    for (index_t k = 0; k < count; k += 2) {
      if (k + 1 < count) {
        sum = multiply_add<Real>(a(k + 1), b(k + 1), sum);
      }
      sum = multiply_add<Real>(a(k), b(k), sum);
    }
  } else {
    for (index_t k = 0; k < count; ++k) {
      sum = multiply_add<Real>(a(k), b(k), sum);
    }
  }
  return sum;
}

/// `count` elements of a stream of random numbers.
template <class Element>
std::vector<Element> elements(index_t count, std::uint64_t stream) {
  std::vector<Element> made;
  for (const double number : uniform(count, stream)) {
    made.push_back(stored<Element>(number));
  }
  return made;
}

/// The same bits.
template <class Element>
bool same(const Element& a, const Element& b) {
  return std::memcmp(&a, &b, sizeof(Element)) == 0;
}

}  // namespace mtp::test::cpu_products
