// Tokens in a second of a trainer on ranks of MPI, to be compared with one process that has as many
// threads.
//
//   scripts/ranks 1 build/release/benchmarks/training_bench small 2
//   scripts/ranks 2 build/release/benchmarks/training_bench small 1
//
// The first argument is small or large, the second the threads of a rank, the third, if there is
// one, zero1 or engine. A step has two passes, so the loss must be the same in both, to the bit.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/mpi_session.hpp"
#include "mtp/mtp.hpp"

namespace {

constexpr mtp::model_config small{.vocab_size = 256,
                                  .hidden_size = 256,
                                  .num_hidden_layers = 4,
                                  .max_position_embeddings = 128,
                                  .attention = {.num_attention_heads = 8},
                                  .feed_forward = {.intermediate_size = 688},
                                  .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};
constexpr mtp::model_config large{.vocab_size = 32000,
                                  .hidden_size = 512,
                                  .num_hidden_layers = 8,
                                  .max_position_embeddings = 512,
                                  .attention = {.num_attention_heads = 8},
                                  .feed_forward = {.intermediate_size = 1376},
                                  .prediction = {.kind = mtp::head_kind::none, .depth = 0}};

struct request {
  int threads = 1;
  std::string how;
};

template <mtp::model_config Config>
void measure(mtp::mpi_communicator& group, const request& asked, mtp::index_t batch, int steps) {
  using trainer_type = mtp::trainer<Config, mtp::cpu, float, std::uint8_t, mtp::mpi_communicator>;
  constexpr mtp::index_t length = Config.max_position_embeddings;
  mtp::context<mtp::cpu> context({.threads = asked.threads});
  mtp::language_model<Config, mtp::cpu> model(context, mtp::seed{42});
  const mtp::random_stream random(mtp::seed{1}, 0);
  std::vector<std::uint8_t> text(1 << 16);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.below(i, 256));
  }
  const mtp::dataset<> data(std::move(text), {}, {.window = trainer_type::window_of(length)});
  using mtp::optimizer_sharding, mtp::reduction_order;
  trainer_type trainer(
      context,
      model,
      data,
      {.batch = batch,
       .length = length,
       .accumulation = 2,
       .sharding = asked.how == "zero1" ? optimizer_sharding::zero1 : optimizer_sharding::none,
       .reduction = asked.how == "engine" ? reduction_order::engine : reduction_order::by_rank},
      group);
  trainer.step();
  const auto start = std::chrono::steady_clock::now();
  double loss = 0;
  for (int i = 0; i < steps; ++i) loss = trainer.step().loss.total;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (group.rank() == 0) {
    std::printf("%d ranks with %d threads, %.1f million parameters %s: %.0f tokens/s, loss %.17g\n",
                group.size(),
                asked.threads,
                static_cast<double>(model.parameter_count()) / 1e6,
                asked.how.c_str(),
                static_cast<double>(steps * trainer.tokens_per_step()) / seconds.count(),
                loss);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: training_bench small|large THREADS [zero1|engine]\n");
    return 2;
  }
  const request asked{std::atoi(argv[2]), argc > 3 ? argv[3] : ""};
  const bool is_large = std::string(argv[1]) == "large";
  return mtp::mpi_session::run(argc, argv, [&](mtp::mpi_communicator& group) {
    if (is_large) {
      measure<large>(group, asked, 4, 3);
    } else {
      measure<small>(group, asked, 8, 8);
    }
  });
}
