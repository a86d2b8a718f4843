// A communicator whose spans are in a device's memory: a trainer takes it, and one rank of it has
// the bits of no group.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/backend/cuda.cuh"
// The backend comes first.
#include "mtp/distributed/communicator.hpp"
#include "mtp/train/trainer.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::cuda_emulation_group_cases {

namespace {

/// One rank.
struct one_device {
  using memory = cuda;
  struct request {
    request(request&&) = default;
    request& operator=(request&&) = default;
    bool done() { return true; }
    void wait() {}
  };

  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  void barrier() {}
  template <class T>
  void broadcast(std::span<T>, int) {}
  template <class T>
  void all_gather(std::span<T>, const shards&) {
    ++calls;
  }
  template <class T>
  void all_reduce(std::span<T>, reduction) {
    ++calls;
  }
  template <class T>
  void reduce_scatter(std::span<T>, const shards&) {}
  template <class T>
  request start_send(std::span<T>, int, int) {
    fail("there is nobody");
  }
  template <class T>
  request start_receive(std::span<T>, int, int) {
    fail("there is nobody");
  }
  template <class T>
  void send(std::span<T>, int, int) {}
  template <class T>
  void receive(std::span<T>, int, int) {}
  one_device split(int, int) { return {}; }

  int calls = 0;
};
static_assert(communicator<one_device> && !host_communicator<one_device>);

constexpr model_config config = tiny_config(head_kind::sequential, 1);

template <class Communicator, class... Group>
std::vector<float> train(Group&... group) {
  std::vector<std::uint8_t> text(400);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>((i * i / 3 + i) % config.vocab_size);
  }
  using trainer_type = trainer<config, cuda, float, std::uint8_t, Communicator>;
  cuda_context context;
  language_model<config, cuda> model(context, seed{5});
  const dataset<> data(text, {}, {.window = trainer_type::window_of(9)});
  train_options<config> options{.batch = 2, .length = 9, .accumulation = 2};
  options.loss.normalization = loss_normalization::valid_targets;
  options.sharding = optimizer_sharding::zero1;
  trainer_type training(context, model, data, options, group...);
  for (int step = 0; step < 2; ++step) {
    CHECK_FALSE(training.step().skipped);
  }
  std::vector<float> values(static_cast<std::size_t>(model.values().count()));
  backend_traits<cuda>::copy_to_host(
      values.data(), model.values().data(), values.size() * sizeof(float));
  return values;
}

}  // namespace

TEST_CASE("a trainer with a communicator of a device's memory has the bits of one without") {
  one_device group;
  const auto with = train<one_device>(group), without = train<alone>();
  CHECK(group.calls == 4);  // targets and reports of two steps
  CHECK(same_bits(with, without));
}

}  // namespace mtp::test::cuda_emulation_group_cases
