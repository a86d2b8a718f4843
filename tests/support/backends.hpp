// What tests of operations need to know of a backend. A body of tests lives in <op>_test.hpp and is
// made for pairs of backend and element type by <op>_test.cpp and <op>_test.cu.
#pragma once

#include <cstddef>
#include <iterator>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"

namespace mtp::test {

/// One pair of backend and element type: what TEST_CASE_TEMPLATE goes through.
template <class Backend, class S>
struct on {
  using backend = Backend;
  using scalar = S;
};

/// Specialized for each backend:
///   allocate, deallocate  memory that the backend's operations and the host both address
///   settle()              returns when the host may read what operations wrote
///   make_context([bytes]) a context for ordinary tests, with `bytes` of workspace
///   each_way(body)        body(context, name) in every way in which results must be the same
///   at_full_size          false where large sizes would take too long
///   at_all_sizes          false where all of many sizes would
template <class Backend>
struct testing;

/// All of `sizes`, or every third where that would take too long: of emulated kernels with
/// sanitizers, and every fifth without optimization. There accesses are looked at; guard zones and
/// poisoned memory watch all sizes in other builds.
template <class Backend, class Sizes>
auto some_of(const Sizes& sizes) {
#if defined(MTP_TEST_UNOPTIMIZED)
  constexpr std::size_t step = 5;
#else
  constexpr std::size_t step = 3;
#endif
  std::vector<std::remove_cvref_t<decltype(*std::begin(sizes))>> chosen;
  std::size_t i = 0;
  for (const auto& each : sizes) {
    if (testing<Backend>::at_all_sizes || i++ % step == 0) {
      chosen.push_back(each);
    }
  }
  return chosen;
}

/// Whether operations have given back what they took from the workspace, where there is one.
template <class Context>
bool workspace_is_idle(Context& context) {
  if constexpr (requires { context.workspace(); }) {
    return context.workspace().used() == 0;
  } else {
    return true;
  }
}

/// For std::vector: memory of testing<Backend>.
template <class Element, class Backend>
struct shared_allocator {
  using value_type = Element;

  shared_allocator() = default;
  template <class Other>
  shared_allocator(const shared_allocator<Other, Backend>&) {}
  template <class Other>
  struct rebind {
    using other = shared_allocator<Other, Backend>;
  };

  Element* allocate(std::size_t count) {
    return static_cast<Element*>(testing<Backend>::allocate(count * sizeof(Element)));
  }
  void deallocate(Element* memory, std::size_t count) {
    testing<Backend>::deallocate(memory, count * sizeof(Element));
  }
  friend bool operator==(const shared_allocator&, const shared_allocator&) { return true; }
};

}  // namespace mtp::test
