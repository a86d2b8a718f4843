// What the CPU backend's products promise of each element, element by element.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
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
