// Output matrices divided among ranks, on GPUs. Contracts: ops/sharded_cross_entropy.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "mtp/backend/cuda/cross_entropy_rows.cuh"
#include "mtp/backend/cuda/linear.cuh"
#include "mtp/backend/cuda/linear_cross_entropy.cuh"
#include "mtp/backend/cuda/sum_over_ranks.cuh"
#include "mtp/backend/cuda/token_range.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// What ranks know of rows with J targets each, a block for each rank: the largest of its logits,
/// the sum of exp(logit - largest), the logits of those targets that it has, zeros for the others;
/// and the token of the largest.
template <class S>
struct row_parts {
  using A = accumulate_t<S>;

  std::byte* memory;  // [ranks, block_bytes]
  index_t rows;
  index_t J;
  int ranks;

  /// A multiple of the size of a number, so that the next block begins at one.
  MTP_HOST_DEVICE static constexpr index_t block_bytes(index_t rows, index_t J) {
    return round_up(rows * ((2 + J) * number + static_cast<index_t>(sizeof(token_t))), number);
  }

  MTP_HOST_DEVICE std::byte* block(int rank) const { return memory + rank * block_bytes(rows, J); }
  __device__ __forceinline__ A* numbers(int rank, index_t r) const {  // [2 + J]
    return reinterpret_cast<A*>(block(rank)) + r * (2 + J);
  }
  __device__ __forceinline__ token_t& token(int rank, index_t r) const {
    return reinterpret_cast<token_t*>(block(rank) + rows * (2 + J) * number)[r];
  }

 private:
  static constexpr index_t number = sizeof(A);
};

/// What rank `rank` knows of row blockIdx.x. One block for a row, which is read once.
template <class S>
__global__ void __launch_bounds__(cross_entropy_policy::most_threads<S>)
    inspect_rows_kernel(row_parts<S> parts,
                        int rank,
                        const S* logits,  // [rows, tokens.count] stride (row, 1), aligned rows
                        index_t row,
                        token_range tokens,
                        matrix_places<const token_t> targets,  // [rows, J]
                        index_t first_row,                     // for reports
                        fault_record* faults) {
  const index_t r = blockIdx.x;
  const S* const own_row = logits + r * row;
  accumulate_t<S>* const numbers = parts.numbers(rank, r);
  for (index_t j = threadIdx.x; j < parts.J; j += blockDim.x) {
    const token_t target = targets(r, j);
    if (target >= tokens.all) {
      report_fault(faults, fault_target, first_row + r, target, tokens.all);
    }
    numbers[2 + j] = tokens.has(target) ? widen(own_row[tokens.place_of(target)]) : 0;
  }
  const row_softmax<S> own = read_row<S, false>(
      own_row, tokens.count, nullptr, 0, dynamic_shared<largest<accumulate_t<S>>>());
  if (threadIdx.x == 0) {
    numbers[0] = own.largest;
    numbers[1] = own.sum;
    parts.token(rank, r) =
        own.argmax < 0 ? token_t{-1} : static_cast<token_t>(tokens.first + own.argmax);
  }
}

/// The parts of row r, merged in the order of ranks: each sum is scaled to the largest of all.
template <class S>
__device__ __forceinline__ row_softmax<S> merged(const row_parts<S>& parts, index_t r) {
  using A = accumulate_t<S>;
  largest<A> best = no_largest<A>();
  for (int rank = 0; rank < parts.ranks; ++rank) {
    best = larger(best, largest<A>{parts.numbers(rank, r)[0], parts.token(rank, r)});
  }
  A sum = 0;
  for (int rank = 0; rank < parts.ranks; ++rank) {
    const A* const numbers = parts.numbers(rank, r);
    sum += rounded_product(numbers[1], exponential<S>(numbers[0] - best.value));
  }
  return {best.value, sum, best.at};
}

/// Losses and prediction of row blockIdx.x, the same on all ranks, and, with `Gradient`, the
/// gradient by the own logits in their place, which are read and written once. One block for a row.
template <class S, bool Gradient>
__global__ void __launch_bounds__(cross_entropy_policy::most_threads<S>)
    finish_rows_kernel(S* logits,  // [rows, tokens.count] stride (row, 1), aligned rows
                       index_t row,
                       token_range tokens,
                       row_parts<S> parts,
                       matrix_places<accumulate_t<S>> losses,         // [rows, J]
                       token_t* __restrict__ predicted,               // [rows]
                       matrix_places<const token_t> targets,          // [rows, J]
                       matrix_places<const accumulate_t<S>> weights,  // [rows, J]
                       cross_entropy_memory<S> memory) {
  using A = accumulate_t<S>;
  auto* const shared = dynamic_shared<unsigned char>();
  auto* const weight_list = reinterpret_cast<A*>(shared + memory.numbers());        // [J]
  auto* const target_list = reinterpret_cast<token_t*>(shared + memory.targets());  // [J]
  const index_t r = blockIdx.x, J = memory.J;
  const row_softmax<S> softmax = merged(parts, r);
  if (threadIdx.x == 0) {
    predicted[r] = softmax.argmax;
  }
  const A log_sum = std::log(softmax.sum);
  for (index_t j = threadIdx.x; j < J; j += blockDim.x) {
    const token_t target = targets(r, j);
    const bool exists = tokens.knows(target);
    A logit = 0;  // one rank has it, the others have zeros
    for (int rank = 0; rank < parts.ranks; ++rank) {
      logit += parts.numbers(rank, r)[2 + j];
    }
    losses(r, j) = exists ? loss_of<S>(logit, softmax, log_sum) : A(0);
    if constexpr (Gradient) {
      weight_list[j] = exists ? weights(r, j) : A(0);
      target_list[j] =
          tokens.has(target) ? static_cast<token_t>(tokens.place_of(target)) : token_t{-1};
    }
  }
  if constexpr (Gradient) {
    __syncthreads();
    write_gradient<S>(
        logits + r * row, tokens.count, softmax, target_list, weight_list, J, nullptr, 0);
  }
}

struct cuda_sharded_cross_entropy_ops {
  using whole = cuda_linear_cross_entropy_ops;

  template <scalar Y, scalar S>
  static void sharded_linear_forward(cuda_context& context,
                                     matrix_view<Y, cuda> y,
                                     matrix_view<const S, cuda> x,
                                     weight_view<const S, cuda> w) {
    cuda_tensor_group& ranks = *context.ranks();
    const index_t N = x.extent(0), V = w.outputs;
    if (N == 0 || V == 0) {
      return;
    }
    const arena::scope scope(context.workspace());
    // Not within `all`: where a result begins must not depend on the number of rows.
    Y* const own = context.workspace().template take<Y>(N * V);                 // [N, V]
    Y* const all = context.workspace().template take<Y>(ranks.size() * N * V);  // [R, N, V]
    cuda_linear_ops::linear_forward(context, matrix_view<Y, cuda>(own, {N, V}), x, w);
    const index_t row_bytes = V * static_cast<index_t>(sizeof(Y));
    ranks.device_gather(
        reinterpret_cast<const std::byte*>(own), reinterpret_cast<std::byte*>(all), N * row_bytes);
    for (index_t rank = 0; rank < ranks.size(); ++rank) {
      check_cuda(cudaMemcpy2DAsync(y.data() + rank * V,
                                   static_cast<std::size_t>(y.stride(0)) * sizeof(Y),
                                   all + rank * N * V,
                                   static_cast<std::size_t>(row_bytes),
                                   static_cast<std::size_t>(row_bytes),
                                   static_cast<std::size_t>(N),
                                   cudaMemcpyDeviceToDevice,
                                   context.stream()),
                 "sharded_linear_forward");
    }
  }

  template <scalar S>
  static void sharded_cross_entropy(cuda_context& context,
                                    matrix_view<accumulate_t<S>, cuda> losses,
                                    vector_view<token_t, cuda> predicted,
                                    matrix_view<S, cuda> dhidden,
                                    weight_view<accumulate_t<S>, cuda> dw,
                                    matrix_view<const S, cuda> hidden,
                                    weight_view<const S, cuda> w,
                                    matrix_view<const token_t, cuda> targets,
                                    matrix_view<const accumulate_t<S>, cuda> weights) {
    {
      const arena::scope scope(context.workspace());
      std::byte* const memory = take_parts<S>(context, hidden.extent(0), w.outputs, targets);
      whole::with_gradients<S>(context,
                               dhidden,
                               dw,
                               hidden,
                               w,
                               [&](matrix_view<S, cuda> logits, index_t first, index_t rows) {
                                 score<S, true>(context,
                                                "sharded_cross_entropy",
                                                memory,
                                                logits,
                                                losses.slice(0, first, rows),
                                                predicted.data() + first,
                                                targets.slice(0, first, rows),
                                                weights.slice(0, first, rows),
                                                first);
                               });
    }
    cuda_sum_over_ranks_ops::sum_over_ranks(
        context, vector_view<S, cuda>(dhidden.data(), dims<1>{dhidden.count()}));
  }

  template <scalar S>
  static void sharded_cross_entropy_forward(cuda_context& context,
                                            matrix_view<accumulate_t<S>, cuda> losses,
                                            vector_view<token_t, cuda> predicted,
                                            matrix_view<const S, cuda> hidden,
                                            weight_view<const S, cuda> w,
                                            matrix_view<const token_t, cuda> targets) {
    const arena::scope scope(context.workspace());
    std::byte* const memory = take_parts<S>(context, hidden.extent(0), w.outputs, targets);
    whole::for_each_chunk<S>(
        context, hidden, w, [&](matrix_view<S, cuda> logits, index_t first, index_t rows) {
          score<S, false>(context,
                          "sharded_cross_entropy_forward",
                          memory,
                          logits,
                          losses.slice(0, first, rows),
                          predicted.data() + first,
                          targets.slice(0, first, rows),
                          {nullptr, {rows, targets.extent(1)}},
                          first);
        });
  }

  /// The most bytes of workspace that sharded_linear_forward needs: `rows` rows, `part` tokens of
  /// each of `ranks` ranks.
  template <scalar S>
  static constexpr index_t sharded_linear_workspace(
      index_t rows, index_t part, index_t width, index_t threads, index_t ranks) {
    return arena_bytes(rows * part, sizeof(accumulate_t<S>)) +
           arena_bytes(ranks * rows * part, sizeof(accumulate_t<S>)) +
           cuda_linear_ops::linear_forward_workspace<S>(rows, part, width, threads);
  }

  /// The most bytes that sharded_cross_entropy needs for `rows` rows of `targets` targets each.
  template <scalar S>
  static constexpr index_t sharded_cross_entropy_workspace(
      index_t rows, index_t part, index_t width, index_t targets, index_t threads, index_t ranks) {
    const index_t chunk = std::min(rows, whole::chunk_rows<S>(part));
    return std::max(arena_bytes(ranks * row_parts<S>::block_bytes(chunk, targets), 1) +
                        whole::linear_cross_entropy_workspace<S>(rows, part, width, threads),
                    cuda_sum_over_ranks_ops::sum_over_ranks_workspace<S>(rows * width, ranks));
  }

 private:
  /// Room for the parts of a chunk.
  template <class S>
  static std::byte* take_parts(cuda_context& context,
                               index_t rows,
                               index_t part,
                               const matrix_view<const token_t, cuda>& targets) {
    const index_t chunk = std::min(rows, whole::chunk_rows<S>(part));
    return context.workspace().template take<std::byte>(
        context.ranks()->size() * row_parts<S>::block_bytes(chunk, targets.extent(1)));
  }

  template <class S, bool Gradient>
  static void score(cuda_context& context,
                    const char* name,
                    std::byte* memory,
                    const matrix_view<S, cuda>& logits,                       // [rows, V / R]
                    const matrix_view<accumulate_t<S>, cuda>& losses,         // [rows, J]
                    token_t* predicted,                                       // [rows]
                    const matrix_view<const token_t, cuda>& targets,          // [rows, J]
                    const matrix_view<const accumulate_t<S>, cuda>& weights,  // [rows, J]
                    index_t first_row) {
    cuda_tensor_group& ranks = *context.ranks();
    const index_t rows = logits.extent(0), V = logits.extent(1), J = targets.extent(1);
    const token_range tokens{ranks.rank() * V, V, ranks.size() * V};
    const row_parts<S> parts{memory, rows, J, ranks.size()};
    const cross_entropy_memory<S> memory_of_block{0, J};
    const dim3 grid(extent_of(rows, name));
    const dim3 block(static_cast<unsigned>(cross_entropy_policy::threads<S>(V)));
    launch(context,
           name,
           grid,
           block,
           static_cast<std::size_t>(memory_of_block.numbers()),
           inspect_rows_kernel<S>,
           parts,
           ranks.rank(),
           logits.data(),
           logits.stride(0),
           tokens,
           matrix_places(targets),
           first_row,
           context.faults());
    ranks.device_gather(parts.block(ranks.rank()), memory, row_parts<S>::block_bytes(rows, J));
    launch(context,
           name,
           grid,
           Gradient ? block : dim3(warp_size),
           static_cast<std::size_t>(memory_of_block.bytes()),
           finish_rows_kernel<S, Gradient>,
           logits.data(),
           logits.stride(0),
           tokens,
           parts,
           matrix_places(losses),
           predicted,
           matrix_places(targets),
           matrix_places(weights),
           memory_of_block);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
