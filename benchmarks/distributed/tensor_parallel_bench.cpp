// Tokens in a second of a model that two ranks of MPI have parts of, in training and in decoding,
// to be compared with one process that has as many threads.
//
//   scripts/ranks 1 build/release/benchmarks/tensor_parallel_bench 2
//   scripts/ranks 2 build/release/benchmarks/tensor_parallel_bench 1
//
// The argument is the threads of a rank. Losses of both agree up to rounding.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/mpi_session.hpp"
#include "mtp/distributed/tensor_ranks.hpp"
#include "mtp/mtp.hpp"

namespace {

constexpr mtp::model_config whole{.vocab_size = 32000,
                                  .hidden_size = 512,
                                  .num_hidden_layers = 8,
                                  .max_position_embeddings = 512,
                                  .attention = {.num_attention_heads = 8},
                                  .feed_forward = {.intermediate_size = 1376},
                                  .prediction = {.kind = mtp::head_kind::none, .depth = 0}};

/// The time that a call takes.
template <class Call>
double seconds_of(const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <mtp::model_config Config>
void measure(mtp::mpi_communicator& group, int threads) {
  using trainer_type = mtp::trainer<Config, mtp::cpu>;
  constexpr mtp::index_t length = Config.max_position_embeddings;
  constexpr int steps = 3, written = 128, turns = 3;
  mtp::tensor_ranks ranks(group);
  mtp::context<mtp::cpu> context({.threads = threads});
  context.join(ranks);
  mtp::language_model<Config, mtp::cpu> model(context, mtp::seed{42});
  const mtp::random_stream random(mtp::seed{1}, 0);
  std::vector<std::uint8_t> text(1 << 14);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.below(i, 256));
  }
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 64);
  const mtp::dataset<> data(std::move(text), {}, {.window = trainer_type::window_of(length)});
  trainer_type trainer(context, model, data, {.batch = 4, .length = length});
  mtp::generator<Config, mtp::cpu> generator(context, model);
  double loss = trainer.step().loss.total;
  static_cast<void>(generator.generate(prompt, {.max_new_tokens = 8}));
  for (int turn = 0; turn < turns; ++turn) {
    const double training = seconds_of([&] {
      for (int i = 0; i < steps; ++i) loss = trainer.step().loss.total;
    });
    const double decoding = seconds_of(
        [&] { static_cast<void>(generator.generate(prompt, {.max_new_tokens = written})); });
    if (group.rank() != 0) continue;
    std::printf(
        "%d ranks with %d threads: training %.0f tokens/s, decoding %.1f tokens/s, loss %g\n",
        group.size(),
        threads,
        static_cast<double>(steps * trainer.tokens_per_step()) / training,
        written / decoding,
        loss);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: tensor_parallel_bench THREADS\n");
    return 2;
  }
  const int threads = std::atoi(argv[1]);
  return mtp::mpi_session::run(argc, argv, [&](mtp::mpi_communicator& group) {
    mtp::check(group.size() <= 2, "tensor_parallel_bench: expected 1 or 2 ranks");
    if (group.size() == 2) {
      measure<mtp::tensor_parallel(whole, 2)>(group, threads);
    } else {
      measure<whole>(group, threads);
    }
  });
}
