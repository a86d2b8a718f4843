// Softmax and cross entropy of rows of logits, with their gradients in place.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "mtp/backend/cuda/exponential.cuh"
#include "mtp/backend/cuda/largest.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/online_softmax.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct cross_entropy_policy {
  static constexpr int batch = 4;  // packs of a row that a thread has in flight

  /// Threads of a block, which processes one row. With elements of two bytes a thread has 64
  /// registers, so 1024 threads are resident on a multiprocessor: two rows, one of which is read
  /// while the other is written, unless rows are so long that shared memory serves a single one
  /// better.
  template <class S>
  static constexpr int most_threads = sizeof(S) <= 2 ? 1024 : 512;
  static constexpr int paired_threads = 512;
  static constexpr index_t paired_bytes = index_t{112} << 10;

  /// Depends only on the length of a row, and so does the order of sums.
  template <class S>
  static constexpr int threads(index_t V) {
    const index_t packs = ceil_div(V, pack<S>::width);
    const int most = packs * 16 <= paired_bytes ? paired_threads : most_threads<S>;
    return static_cast<int>(
        std::clamp<index_t>(round_up(ceil_div(packs, batch), warp_size), warp_size, most));
  }
};

/// Elements of a matrix with any strides.
template <class Element>
struct matrix_places {
  Element* data;  // [R, J] stride (row, column)
  index_t row;
  index_t column;

  explicit matrix_places(const matrix_view<Element, cuda>& x)
      : data(x.data()), row(x.stride(0)), column(x.stride(1)) {}
  __device__ __forceinline__ Element& operator()(index_t r, index_t j) const {
    return data[r * row + j * column];
  }
};

/// Layout of the shared memory of a block for a row of V logits with J targets, in bytes. It keeps
/// as much of the row as fits for the second sweep.
template <class S>
struct cross_entropy_memory {
  using A = accumulate_t<S>;

  index_t kept;  // packs
  index_t J;

  MTP_HOST_DEVICE index_t reduction() const { return kept * 16; }
  MTP_HOST_DEVICE index_t numbers() const {
    return reduction() + block_reduction_size * static_cast<index_t>(sizeof(largest<A>));
  }
  MTP_HOST_DEVICE index_t targets() const {
    return numbers() + 2 * J * static_cast<index_t>(sizeof(A));
  }
  MTP_HOST_DEVICE index_t bytes() const {
    return targets() + J * static_cast<index_t>(sizeof(token_t));
  }
};

/// What a block knows of a row of logits.
template <class S>
struct row_softmax {
  accumulate_t<S> largest;  // -infinity if no logit is above it
  accumulate_t<S> sum;      // of exp(logit - largest); NaN if a logit is not finite
  token_t argmax;           // -1 if all logits are NaN

  __device__ __forceinline__ bool finite() const { return sum == sum; }
};

/// Reads row [V] once; with `Keep`, packs below `kept` stay in shared memory, pack p with thread p
/// mod blockDim.x. Every thread gets the result.
template <class S, bool Keep>
__device__ __forceinline__ row_softmax<S> read_row(const S* row,  // [V], 16-byte aligned
                                                   index_t V,
                                                   pack<S>* kept_packs,  // [kept]
                                                   index_t kept,
                                                   largest<accumulate_t<S>>* reduction) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, batch = cross_entropy_policy::batch;
  const auto thread = static_cast<index_t>(threadIdx.x);
  const auto threads = static_cast<index_t>(blockDim.x);
  const auto* const packs = reinterpret_cast<const pack<S>*>(row);
  const index_t whole_packs = V / W, all_packs = ceil_div(V, W);
  softmax_part<S> part;
  index_t p = thread;
  for (; p + (batch - 1) * threads < whole_packs; p += batch * threads) {
    pack<S> values[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      values[k] = packs[p + k * threads];
    }
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      const index_t at = p + k * threads;
      if (Keep && at < kept) {
        kept_packs[at] = values[k];
      }
      part.meet(values[k], at * W, W);
    }
  }
  for (; p < all_packs; p += threads) {
    const pack<S> values = packs[p];
    if (Keep && p < kept) {
      kept_packs[p] = values;
    }
    part.meet(values, p * W, p < whole_packs ? W : static_cast<int>(V - p * W));
  }

  const largest<A> best = block_largest(part.best, reduction);
  const A sum = block_sum(rounded_product(part.sum, exponential<S>(part.best.value - best.value)),
                          reinterpret_cast<A*>(reduction));
  token_t argmax = best.at;
  if (argmax < 0) {  // no number is above -inf: take the first number
    largest<A> lowest = no_largest<A>();
    for (index_t v = thread; v < V; v += threads) {
      lowest.meet(widen(row[v]), static_cast<token_t>(v));
    }
    argmax = block_largest(lowest, reduction).at;
  }
  return {best.value, sum, argmax};
}

/// Overwrites the logits of a row with  total weight * softmax - weight at each target.  Packs
/// below `kept` are those that read_row has kept.
template <class S>
__device__ __forceinline__ void write_gradient(S* row,  // [V], 16-byte aligned
                                               index_t V,
                                               const row_softmax<S>& softmax,
                                               const token_t* target_list,          // [J]
                                               const accumulate_t<S>* weight_list,  // [J]
                                               index_t J,
                                               const pack<S>* kept_packs,  // [kept]
                                               index_t kept) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, batch = cross_entropy_policy::batch;
  const auto thread = static_cast<index_t>(threadIdx.x);
  const auto threads = static_cast<index_t>(blockDim.x);
  auto* const packs = reinterpret_cast<pack<S>*>(row);
  const index_t all_packs = ceil_div(V, W);
  A total_weight = 0;
  bool weighted = false;
#pragma unroll 1
  for (index_t j = 0; j < J; ++j) {
    total_weight += weight_list[j];
    weighted = weighted || weight_list[j] != A(0);
  }
  index_t p = thread;
  if (!softmax.finite()) {  // no number is right, so the results are NaN
    A substitute[W];
#pragma unroll
    for (int i = 0; i < W; ++i) {
      substitute[i] = weighted ? static_cast<A>(__int_as_float(0x7fffffff)) : A(0);
    }
#pragma unroll 1
    for (; p < all_packs; p += threads) {
      packs[p] = narrow_pack<S>(substitute);
    }
    return;
  }
  const A scale = total_weight / softmax.sum;
  const auto write = [&](index_t at, const pack<S>& values) {
    A x[W];
    widen_pack(x, values);
    const index_t v = at * W;
    bool hit = false;
#pragma unroll 1
    for (index_t j = 0; j < J; ++j) {
      hit = hit || (target_list[j] >= v && target_list[j] < v + W);
    }
#pragma unroll
    for (int i = 0; i < W; ++i) {
      x[i] = exponential<S>(x[i] - softmax.largest);
    }
    if (hit) {
      A taken[W] = {};
#pragma unroll 1
      for (index_t j = 0; j < J; ++j) {
#pragma unroll
        for (int i = 0; i < W; ++i) {
          taken[i] += target_list[j] == v + i ? weight_list[j] : A(0);
        }
      }
#pragma unroll
      for (int i = 0; i < W; ++i) {
        x[i] = std::fma(x[i], scale, -taken[i]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        x[i] *= scale;
      }
    }
    packs[at] = narrow_pack<S>(x);
  };
#pragma unroll 1
  for (; p < kept; p += threads) {
    write(p, kept_packs[p]);
  }
  for (; p + (batch - 1) * threads < all_packs; p += batch * threads) {
    pack<S> values[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      values[k] = packs[p + k * threads];
    }
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      write(p + k * threads, values[k]);
    }
  }
#pragma unroll 1
  for (; p < all_packs; p += threads) {
    write(p, packs[p]);
  }
}

/// The loss of a target, or NaN where a logit of the row is not finite.
template <class S>
__device__ __forceinline__ accumulate_t<S> loss_of(accumulate_t<S> logit,
                                                   const row_softmax<S>& softmax,
                                                   accumulate_t<S> log_sum) {
  return softmax.finite() ? mtp::detail::cross_entropy_of(logit, softmax.largest, log_sum)
                          : static_cast<accumulate_t<S>>(__int_as_float(0x7fffffff));
}

/// Losses, prediction and, with `Gradient`, the gradient by the logits of row blockIdx.x: the
/// logits are overwritten by  total weight * softmax - weight at each target.
///
/// One block for a row. The first sweep finds maximum and sum, the second writes. If the row fits
/// into shared memory, it moves 4 V bytes for bf16, read once and written once; the rest of a
/// longer row is read again, soon, from the L2 cache. Without gradient it reads 2 V bytes. Pack p
/// of the row belongs to thread p mod blockDim.x in both sweeps, so they need no barrier.
template <class S, bool Gradient>
__global__ void __launch_bounds__(cross_entropy_policy::most_threads<S>)
    cross_entropy_kernel(S* logits,    // [R, V] stride (row, 1), 16-byte aligned rows
                         index_t row,  // a multiple of a pack
                         index_t V,
                         matrix_places<accumulate_t<S>> losses,         // [R, J]
                         token_t* __restrict__ predicted,               // [R]
                         matrix_places<const token_t> targets,          // [R, J]
                         matrix_places<const accumulate_t<S>> weights,  // [R, J]
                         cross_entropy_memory<S> memory,
                         index_t first_row,  // number of the first row, for reports
                         fault_record* faults) {
  using A = accumulate_t<S>;
  auto* const shared = dynamic_shared<unsigned char>();
  auto* const kept_packs = reinterpret_cast<pack<S>*>(shared);                         // [kept]
  auto* const reduction = reinterpret_cast<largest<A>*>(shared + memory.reduction());  // [32]
  auto* const weight_list = reinterpret_cast<A*>(shared + memory.numbers());           // [J]
  A* const logit_list = weight_list + memory.J;                                        // [J]
  auto* const target_list = reinterpret_cast<token_t*>(shared + memory.targets());     // [J]
  const index_t r = blockIdx.x, J = memory.J;
  const auto thread = static_cast<index_t>(threadIdx.x);
  const auto threads = static_cast<index_t>(blockDim.x);
  S* const own_row = logits + r * row;

  for (index_t j = thread; j < J; j += threads) {
    const token_t target = targets(r, j);
    const bool exists = target >= 0 && target < V;
    if (target >= V) {
      report_fault(faults, fault_target, first_row + r, target, V);
    }
    target_list[j] = exists ? target : token_t{-1};
    logit_list[j] = exists ? widen(own_row[target]) : A(0);
    if constexpr (Gradient) {
      weight_list[j] = exists ? weights(r, j) : A(0);
    }
  }

  const row_softmax<S> softmax =
      read_row<S, Gradient>(own_row, V, kept_packs, memory.kept, reduction);
  if (thread == 0) {
    predicted[r] = softmax.argmax;
  }
  const A log_sum = std::log(softmax.sum);
  for (index_t j = thread; j < J; j += threads) {
    losses(r, j) = target_list[j] >= 0 ? loss_of<S>(logit_list[j], softmax, log_sum) : A(0);
  }
  if constexpr (Gradient) {
    write_gradient(own_row, V, softmax, target_list, weight_list, J, kept_packs, memory.kept);
  }
}

/// Shared memory for a block of so many threads: all, or half of a multiprocessor's. The amount
/// does not change the bits.
inline index_t shared_bytes(const cuda_context& context, int threads) {
  constexpr index_t reserved = 1024;  // by the system, for each block
  const index_t of_block = context.block_shared_bytes();
  return threads > cross_entropy_policy::paired_threads
             ? of_block
             : std::min(of_block, context.multiprocessor_shared_bytes() / 2 - reserved);
}

/// Runs cross_entropy_kernel on logits [R, V] in workspace memory. Without `gradient` the weights
/// are not read.
template <class S>
void score_rows(cuda_context& context,
                const char* function,
                matrix_view<S, cuda> logits,                       // [R, V]
                matrix_view<accumulate_t<S>, cuda> losses,         // [R, J]
                token_t* predicted,                                // [R]
                matrix_view<const token_t, cuda> targets,          // [R, J]
                matrix_view<const accumulate_t<S>, cuda> weights,  // [R, J]
                bool gradient,
                index_t first_row) {
  const index_t V = logits.extent(1);
  const int threads = cross_entropy_policy::threads<S>(V);
  cross_entropy_memory<S> memory{0, targets.extent(1)};
  if (gradient) {
    memory.kept = std::clamp<index_t>(
        (shared_bytes(context, threads) - memory.bytes()) / 16, 0, ceil_div(V, pack<S>::width));
  }
  launch(context,
         function,
         dim3(extent_of(logits.extent(0), function)),
         dim3(static_cast<unsigned>(threads)),
         static_cast<std::size_t>(memory.bytes()),
         gradient ? cross_entropy_kernel<S, true> : cross_entropy_kernel<S, false>,
         logits.data(),
         logits.stride(0),
         V,
         matrix_places(losses),
         predicted,
         matrix_places(targets),
         matrix_places(weights),
         memory,
         first_row,
         context.faults());
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
