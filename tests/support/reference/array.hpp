// Numbers with as many indices as they have dimensions: what references of operations are written
// with.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "support/compare.hpp"

namespace mtp::test::reference {

/// Doubles in row-major order; zero when made from sizes alone.
template <int Rank>
struct array {
  std::array<index_t, static_cast<std::size_t>(Rank)> sizes;
  std::vector<double> elements;

  explicit array(const std::array<index_t, static_cast<std::size_t>(Rank)>& shape) : sizes(shape) {
    index_t count = 1;
    for (const index_t size : sizes) {
      count *= size;
    }
    elements.assign(static_cast<std::size_t>(count), 0.0);
  }

  template <class... Indices>
  double& operator()(Indices... indices) {
    return elements[offset(indices...)];
  }
  template <class... Indices>
  double operator()(Indices... indices) const {
    return elements[offset(indices...)];
  }

  index_t size(int dimension) const { return sizes[static_cast<std::size_t>(dimension)]; }

 private:
  template <class... Indices>
  std::size_t offset(Indices... indices) const {
    static_assert(sizeof...(Indices) == static_cast<std::size_t>(Rank),
                  "array: one index per dimension");
    index_t at = 0;
    std::size_t d = 0;
    ((at = at * sizes[d++] + static_cast<index_t>(indices)), ...);
    return static_cast<std::size_t>(at);
  }
};

/// The elements of a view, exactly.
template <class View>
array<View::rank> array_of(const View& x) {
  array<View::rank> result(x.shape().sizes());
  result.elements = values(x);
  return result;
}

template <int Rank>
array<Rank> array_of(const std::array<index_t, static_cast<std::size_t>(Rank)>& sizes,
                     const std::vector<double>& elements) {
  array<Rank> result(sizes);
  result.elements = elements;
  return result;
}

/// |x| element by element: a sum of products of magnitudes bounds the rounding errors of the sum.
template <int Rank>
array<Rank> magnitude(array<Rank> x) {
  for (double& element : x.elements) {
    element = std::abs(element);
  }
  return x;
}

template <int Rank>
array<Rank> operator+(array<Rank> a, const array<Rank>& b) {
  for (std::size_t i = 0; i < a.elements.size(); ++i) {
    a.elements[i] += b.elements[i];
  }
  return a;
}

/// Sum over all elements of a times b: a scalar function whose gradient by b is a.
template <int Rank>
double inner(const array<Rank>& a, const array<Rank>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.elements.size(); ++i) {
    sum += a.elements[i] * b.elements[i];
  }
  return sum;
}

}  // namespace mtp::test::reference
