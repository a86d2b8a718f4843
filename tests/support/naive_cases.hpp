// What tests need to know of the backend in examples/own_backend, which a program brings along: to
// be included before <op>_test.hpp.
#pragma once

#include <cstddef>
#include <tuple>

#include "own_backend/naive/backend.hpp"
#include "support/backends.hpp"

namespace mtp::test {

template <>
struct testing<naive> {
  static void* allocate(std::size_t bytes) { return backend_traits<naive>::allocate(bytes); }
  static void deallocate(void* memory, std::size_t bytes) {
    backend_traits<naive>::deallocate(memory, bytes);
  }
  static void settle() {}
  static naive_context make_context(index_t = 0) { return {}; }

  static constexpr bool at_full_size = false;
  static constexpr bool at_all_sizes = true;

  template <class Body>
  static void each_way(const Body& body) {
    naive_context context;
    body(context, "the only way");
  }
};

using cases = std::tuple<on<naive, double>>;
using one_case = cases;

}  // namespace mtp::test
