// NCCL itself, on the one GPU that is there: a group of one.
#include <cuda_runtime.h>
// The backend comes first.
#include <doctest/doctest.h>

#include <span>
#include <vector>

#include "mtp/backend/cuda.cuh"
#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/nccl.cuh"

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

}  // namespace mtp::test::distributed_nccl_alone_cases
