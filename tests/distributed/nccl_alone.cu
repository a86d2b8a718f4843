// NCCL itself, on the one GPU that is there: a group of one.
#include <cuda_runtime.h>
// The backend comes first.
#include <doctest/doctest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "mtp/backend/cuda.cuh"
#include "mtp/core/tensor.hpp"
#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/nccl.cuh"
#include "mtp/distributed/nccl_tensor_ranks.cuh"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/random.hpp"
#include "mtp/ops/sharded_cross_entropy.hpp"
#include "mtp/ops/sharded_embedding.hpp"

namespace mtp::test::distributed_nccl_alone_cases {

TEST_CASE("a group of one GPU keeps its values in every call, and sends itself messages") {
  cuda_context context;
  alone hosts;
  nccl_communicator group(context, hosts);
  CHECK(group.rank() == 0);
  CHECK(group.size() == 1);
  constexpr std::size_t count = 1001;
  std::vector<float> expected(count);
  for (std::size_t i = 0; i < count; ++i) expected[i] = static_cast<float>(i);
  auto* const memory = static_cast<float*>(cuda_detail::allocate(2 * count * sizeof(float)));
  const std::span<float> x(memory, count), y(memory + count, count);
  backend_traits<cuda>::upload(context, x.data(), expected.data(), count * sizeof(float));
  group.all_reduce(x, reduction::sum);
  group.all_reduce(x, reduction::max);
  group.broadcast(x, 0);
  group.all_gather(x, shards(count, 1));
  group.reduce_scatter(x, shards(count, 1));
  auto receive = group.start_receive(y, 0, 3);
  group.send(x, 0, 3);
  receive.wait();
  group.barrier();
  nccl_communicator part = group.split(0, 0);
  part.all_reduce(y, reduction::min);
  part.synchronize();
  std::vector<float> came(count);
  backend_traits<cuda>::download(context, came.data(), y.data(), count * sizeof(float));
  CHECK(came == expected);
  cuda_detail::deallocate(memory);
}

namespace {

/// What operations on a vocabulary compute, with a whole one or with the part of the only rank.
struct outcome {
  buffer<float, cuda> x, losses, dhidden, dw, logits;
  buffer<token_t, cuda> predicted;
};

template <class S>
std::vector<S> on_host(const buffer<S, cuda>& values) {
  std::vector<S> all(static_cast<std::size_t>(values.count()));
  backend_traits<cuda>::copy_to_host(all.data(), values.data(), all.size() * sizeof(S));
  return all;
}

}  // namespace

TEST_CASE("a model of one GPU has the bits of a whole one, also from a graph") {
  constexpr index_t N = 37, V = 1030, C = 96;
  cuda_context context;
  alone hosts;
  nccl_communicator group(context, hosts);
  nccl_tensor_ranks ranks(group);
  context.join(ranks);

  buffer<float, cuda> hidden(N * C), table(V * C), weights(N);
  std::uint64_t stream = 0;
  for (auto* const each : {&hidden, &table, &weights}) {
    fill_normal(context,
                weight_view<float, cuda>{each->data(), 1, each->count()},
                1.0,
                random_stream(seed{7}, stream++));
  }
  std::vector<token_t> ids;
  for (index_t n = 0; n < N; ++n) ids.push_back(static_cast<token_t>(n * 331 % V));
  buffer<token_t, cuda> tokens(N);
  backend_traits<cuda>::copy_from_host(tokens.data(), ids.data(), ids.size() * sizeof(token_t));

  const auto run = [&](outcome& to, const auto& embed, const auto& multiply, const auto& score) {
    const matrix_view<const float, cuda> rows(hidden.data(), {N, C});
    const weight_view<const float, cuda> w{table.data(), V, C};
    const vector_view<const token_t, cuda> places(tokens.data(), dims<1>{N});
    embed(context, matrix_view<float, cuda>(to.x.data(), {N, C}), w, places);
    multiply(context, matrix_view<float, cuda>(to.logits.data(), {N, V}), rows, w);
    score(context,
          matrix_view<float, cuda>(to.losses.data(), {N, 1}),
          vector_view<token_t, cuda>(to.predicted.data(), dims<1>{N}),
          matrix_view<float, cuda>(to.dhidden.data(), {N, C}),
          weight_view<float, cuda>{to.dw.data(), V, C},
          rows,
          w,
          matrix_view<const token_t, cuda>(tokens.data(), {N, 1}),
          matrix_view<const float, cuda>(weights.data(), {N, 1}));
  };
  const auto fresh = [] {
    using room = buffer<float, cuda>;
    return outcome{
        room(N * C), room(N), room(N * C), room(V * C), room(N * V), buffer<token_t, cuda>(N)};
  };
  outcome whole = fresh(), part = fresh();
  cuda_detail::recording cycle;
  for (int round = 0; round < 3; ++round) {  // one by one, recorded, and replayed
    run(
        whole,
        [](auto&&... all) { embedding_forward(all...); },
        [](auto&&... all) { linear_forward(all...); },
        [](auto&&... all) { linear_cross_entropy(all...); });
    cycle.replay(context, [&] {
      run(
          part,
          [](auto&&... all) { sharded_embedding_forward(all...); },
          [](auto&&... all) { sharded_linear_forward(all...); },
          [](auto&&... all) { sharded_cross_entropy(all...); });
    });
    context.synchronize();
    CHECK(on_host(part.x) == on_host(whole.x));
    CHECK(on_host(part.logits) == on_host(whole.logits));
    CHECK(on_host(part.losses) == on_host(whole.losses));
    CHECK(on_host(part.predicted) == on_host(whole.predicted));
    CHECK(on_host(part.dhidden) == on_host(whole.dhidden));
    CHECK(on_host(part.dw) == on_host(whole.dw));
    CHECK(on_host(whole.losses)[0] > 0);
  }
}

TEST_CASE("a GPU sums with itself in the order of NCCL, and gathers what it brings") {
  cuda_context context;
  alone hosts;
  nccl_communicator group(context, hosts);
  nccl_tensor_ranks ranks(group);
  std::vector<float> values(301);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 3;
  constexpr auto bytes = static_cast<index_t>(301 * sizeof(float));
  buffer<float, cuda> x(301), y(301);
  backend_traits<cuda>::copy_from_host(x.data(), values.data(), 301 * sizeof(float));
  ranks.device_sum(x.data(), 301);
  ranks.device_gather(
      reinterpret_cast<const std::byte*>(x.data()), reinterpret_cast<std::byte*>(y.data()), bytes);
  ranks.device_all_gather(reinterpret_cast<std::byte*>(y.data()), bytes, 16);
  context.synchronize();
  CHECK(on_host(y) == values);
  const auto before = values;
  ranks.all_gather(reinterpret_cast<std::byte*>(values.data()), bytes, 4);
  CHECK(values == before);
}

}  // namespace mtp::test::distributed_nccl_alone_cases
