// Operands of the benchmarks of the CUDA backend: random data made on the device, and a few
// elements of it back on the host for checks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "mtp/backend/cuda.cuh"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"

namespace mtp::bench {

template <class Element>
using vector_of = tensor<Element, dims<1>, cuda>;
template <class Element>
using matrix_of = tensor<Element, dims<2>, cuda>;

/// One context for all benchmarks of a program.
inline cuda_context& context() {
  static cuda_context shared({.workspace_bytes = index_t{1} << 28});
  return shared;
}

/// Another one, whose kernels begin one after the other. It is made where it is wanted, and never
/// destroyed, because what is kept may use it until the end.
inline cuda_context& context_in_order() {
  static auto* const shared =
      new cuda_context({.workspace_bytes = index_t{1} << 28, .overlap = kernel_overlap::off});
  return *shared;
}
inline cuda_context& context_of(bool dependent_launch) {
  return dependent_launch ? context() : context_in_order();
}

/// Numbers in [-1, 1), times `scale`: the same in every run, and never zero for a whole buffer,
/// because zeros take less power and run faster.
template <class S>
__global__ void fill_random_kernel(S* x, index_t count, std::uint64_t stream, float scale) {
  const random_stream random(seed{1}, stream);
  const index_t step = static_cast<index_t>(gridDim.x) * blockDim.x;
  for (index_t i = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const double u = random.uniform(static_cast<std::uint64_t>(i));
    x[i] = cuda_detail::narrow<S>(static_cast<float>(2 * u - 1) * scale);
  }
}

template <class S>
void fill_random(S* x, index_t count, std::uint64_t stream, float scale = 1) {
  cuda_detail::launch(context(),
                      "fill_random",
                      dim3(1024),
                      dim3(256),
                      0,
                      fill_random_kernel<S>,
                      x,
                      count,
                      stream,
                      scale);
}

template <class S>
vector_of<S> random_vector(index_t n, std::uint64_t stream, float scale = 1) {
  vector_of<S> made(dims<1>{n});
  fill_random(made.data(), n, stream, scale);
  return made;
}
template <class S>
matrix_of<S> random_matrix(index_t rows, index_t columns, std::uint64_t stream, float scale = 1) {
  matrix_of<S> made(dims<2>{rows, columns});
  fill_random(made.data(), rows * columns, stream, scale);
  return made;
}

/// `count` elements at `from`, on the host: whole operands of gigabytes would take longer to copy
/// than to measure.
template <class Element>
std::vector<std::remove_const_t<Element>> elements_at(Element* from, index_t count) {
  std::vector<std::remove_const_t<Element>> elements(static_cast<std::size_t>(count));
  backend_traits<cuda>::download(
      context(), elements.data(), from, elements.size() * sizeof(Element));
  return elements;
}
/// Row `row`, or what begins at element `first` of it.
template <class Element>
std::vector<Element> row_at(const matrix_of<Element>& x,
                            index_t row,
                            index_t first,
                            index_t count) {
  return elements_at(x.data() + row * x.extent(1) + first, count);
}
template <class Element>
std::vector<Element> row_at(const matrix_of<Element>& x, index_t row) {
  return row_at(x, row, 0, x.extent(1));
}

/// Copies of one set of operands, enough of them to exceed the L2 cache twice, so that each turn
/// finds its operands in memory.
template <class Set>
class rotation {
 public:
  template <class Make>
  rotation(std::size_t bytes_of_one, const Make& make) {
    constexpr std::size_t twice_the_cache = std::size_t{128} << 20;
    const std::size_t count = std::clamp<std::size_t>(twice_the_cache / bytes_of_one + 1, 2, 64);
    for (std::size_t i = 0; i < count; ++i) {
      sets_.push_back(make(100 * i));
    }
  }
  Set& next() { return sets_[turn_++ % sets_.size()]; }
  Set& first() { return sets_.front(); }
  /// Calls, `least` or more, that take every set equally often.
  int calls(int least) const {
    return static_cast<int>(round_up(index_t{least}, static_cast<index_t>(sets_.size())));
  }

 private:
  std::vector<Set> sets_;
  std::size_t turn_ = 0;
};

/// What was made last, and for whom.
struct kept_memory {
  std::string key;
  std::shared_ptr<void> made;
  bool is_right = false;
};

/// What a benchmark works on. `is_right` starts as false and is kept as well: a check that has
/// passed is not made again.
template <class Made>
struct kept {
  Made& made;
  bool& is_right;
};

/// One for a program: destroyed before the context.
inline kept_memory& last_kept() {
  context();
  static kept_memory shared;
  return shared;
}

/// Made(arguments...), or what the last call made, if it had the same type and key. A benchmark is
/// called several times until its time is long enough, and its neighbours often want the same
/// model: it is made once. One is kept, because two may not fit.
template <class Made, class... Arguments>
kept<Made> keep(const std::string& name, Arguments&&... arguments) {
  kept_memory& last = last_kept();
  const std::string key = std::string(typeid(Made).name()) + ' ' + name;
  if (last.key != key) {
    last = {};
    last.made = std::make_shared<Made>(std::forward<Arguments>(arguments)...);
    context().synchronize();  // other contexts may use it
    last.key = key;
  }
  return {*static_cast<Made*>(last.made.get()), last.is_right};
}

/// The arguments of a benchmark as a key.
inline std::string sizes_of(std::initializer_list<index_t> sizes) {
  std::string key;
  for (const index_t size : sizes) {
    key += std::to_string(size) + ' ';
  }
  return key;
}

}  // namespace mtp::bench
