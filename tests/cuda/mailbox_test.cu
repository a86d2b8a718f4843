// Messages to the host without a wait, and operations that are given as one graph.
#include <doctest/doctest.h>

#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/core/tensor.hpp"

namespace mtp::test::cuda_mailbox_cases {
namespace {

using cuda_detail::mailbox;
using cuda_detail::recording;

/// A number on the device that grows by `step` at each turn.
__global__ void grow_kernel(int* number, int step) {
  *number += step;
}

struct growing {
  cuda_context context;
  tensor<int, dims<1>, cuda> number{dims<1>{1}};
  mailbox reports{context, sizeof(int), 2};

  void grow(int step) {
    cuda_detail::launch(context, "grow", dim3(1), dim3(1), 0, grow_kernel, number.data(), step);
  }
  int read(std::size_t slot) { return *reinterpret_cast<const int*>(reports.wait(slot)); }
};

}  // namespace

TEST_CASE("a slot holds what stood there when it was posted") {
  growing g;
  g.grow(3);
  g.reports.post(g.context, 0, g.number.data());
  g.grow(4);
  g.reports.post(g.context, 1, g.number.data());
  g.grow(5);
  CHECK(g.read(1) == 7);
  CHECK(g.read(0) == 3);
  g.reports.post(g.context, 0, g.number.data());
  CHECK(g.read(0) == 12);
}

TEST_CASE(
    "a recording runs once for each time it is replayed, with the arguments it was recorded with") {
  growing g;
  recording twice;
  int calls = 0;
  const auto body = [&] {
    ++calls;
    g.grow(1);
    g.grow(10);
  };
  for (int i = 1; i <= 5; ++i) {
    twice.replay(g.context, body);
    g.reports.post(g.context, 0, g.number.data());
    CHECK(g.read(0) == 11 * i);
  }
  CHECK(calls == 2);  // once to run, once to record
}

TEST_CASE("a recording starts anew when the workspace has moved") {
  growing g;
  recording once;
  int step = 1;
  const auto body = [&] { g.grow(step); };
  for (int i = 0; i < 3; ++i) {
    once.replay(g.context, body);
  }
  g.context.reserve(g.context.workspace().capacity() + 1);
  step = 100;
  once.replay(g.context, body);
  once.replay(g.context, body);
  g.reports.post(g.context, 0, g.number.data());
  CHECK(g.read(0) == 203);
}

TEST_CASE("a recording whose operations throw stays usable") {
  growing g;
  recording fragile;
  bool broken = false;
  const auto body = [&] {
    g.grow(1);
    check(!broken, "broken on purpose");
  };
  fragile.replay(g.context, body);
  broken = true;
  CHECK_THROWS_AS(fragile.replay(g.context, body), mtp::error);
  broken = false;
  fragile.replay(g.context, body);
  fragile.replay(g.context, body);
  g.reports.post(g.context, 0, g.number.data());
  CHECK(g.read(0) == 3);
}

#if defined(MTP_CUDA_EMULATION)
TEST_CASE("a replay makes one call and does not wait") {
  growing g;
  recording many;
  const auto body = [&] {
    for (int i = 0; i < 20; ++i) {
      g.grow(1);
    }
  };
  many.replay(g.context, body);
  many.replay(g.context, body);
  const auto before = emulation::counts();
  many.replay(g.context, body);
  g.reports.post(g.context, 0, g.number.data());
  const auto after = emulation::counts();
  CHECK(after.launches == before.launches);
  CHECK(after.graph_launches == before.graph_launches + 1);
  CHECK(after.kernels_run == before.kernels_run + 20);
  CHECK(after.synchronizations == before.synchronizations);
  CHECK(after.allocations == before.allocations);
}
#endif

}  // namespace mtp::test::cuda_mailbox_cases
