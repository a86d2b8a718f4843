// Several ranks train one model: the passes of a step are divided among them, and so are the
// moments of AdamW. Whatever the number of ranks, the parameters have the same bits.
//
//   scripts/ranks 2 build/release/examples/train_distributed [TEXT [CHECKPOINT]]
//
// starts two processes of MPI. Started as one process, the program makes two threads the ranks, and
// compares what they have learned with one rank. With a checkpoint, a run goes on where it ended,
// on any number of ranks.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/checksum.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/io/train.hpp"
#include "mtp/mtp.hpp"
#ifdef MTP_EXAMPLE_MPI
#include "mtp/distributed/mpi_session.hpp"
#endif

constexpr mtp::model_config config{.vocab_size = 256,  // bytes
                                   .hidden_size = 64,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 64,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 176},
                                   .prediction = {.kind = mtp::head_kind::sequential, .depth = 1}};

constexpr int steps = 30;

std::vector<std::uint8_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string checksum_of(mtp::language_model<config, mtp::cpu>& model) {
  const auto values = model.values();
  mtp::xxh64 sum;
  sum.update(std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.count()))));
  return mtp::to_hex(sum.digest());
}

/// What every rank does. Returns the checksum of the parameters.
template <class Communicator>
std::string train(Communicator& group, const std::string& text, const std::string& checkpoint) {
  using trainer_type = mtp::trainer<config, mtp::cpu, float, std::uint8_t, Communicator>;
  mtp::context<mtp::cpu> context({.threads = 1});
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{42});  // the same on every rank
  const mtp::dataset<> data(bytes_of(text), {}, {.window = trainer_type::window_of(48)});
  trainer_type trainer(context,
                       model,
                       data,
                       {.batch = 4,
                        .length = 48,
                        .accumulation = 4,  // passes of a step, and so the most ranks
                        .learning_rate = {.peak = 5e-3, .warmup_steps = 10, .total_steps = steps},
                        .sharding = mtp::optimizer_sharding::zero1},
                       group);
  if (!checkpoint.empty() && std::filesystem::exists(checkpoint)) {
    mtp::io::load_checkpoint(checkpoint, trainer);
  }
  if (group.rank() == 0) {
    std::printf("%d ranks, %td parameters, moments of %td of them on rank 0\n",
                group.size(),
                model.values().count(),
                trainer.optimizer().first().count());
  }
  mtp::io::train(
      trainer,
      {.steps = steps, .checkpoint = checkpoint, .save_every = checkpoint.empty() ? 0 : 1},
      [&](const auto& report) {
        if (group.rank() == 0 && report.step.step % 10 == 0) {
          std::printf("step %2d: %.3f nats per byte\n",
                      static_cast<int>(report.step.step),
                      report.step.loss.depths[0].loss);
        }
      });
  const std::string checksum = checksum_of(model);
  if (group.rank() == 0) std::printf("parameters %s\n", checksum.c_str());
  return checksum;
}

/// Threads as ranks. The checksum is that of rank 0.
std::string train_threads(int ranks, const std::string& text, const std::string& checkpoint) {
  std::string checksum;
  mtp::run_ranks(ranks, [&](mtp::thread_communicator& group) {
    const std::string own = train(group, text, checkpoint);
    if (group.rank() == 0) checksum = own;
  });
  return checksum;
}

/// Whether a launcher of Open MPI or MPICH has started this process beside others.
bool is_one_of_several() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* const size = std::getenv(name);
    if (size != nullptr && std::atoi(size) > 1) return true;
  }
  return false;
}

int main(int argc, char** argv) {
  const std::string text = argc > 1 ? argv[1] : "docs/mtp.md";
  const std::string checkpoint = argc > 2 ? argv[2] : "";
  if (is_one_of_several()) {
#ifdef MTP_EXAMPLE_MPI
    return mtp::mpi_session::run(
        argc, argv, [&](mtp::mpi_communicator& group) { train(group, text, checkpoint); });
#else
    std::fprintf(stderr, "train_distributed was built without MPI\n");
    return 1;
#endif
  }
  try {
    const std::string two = train_threads(2, text, checkpoint);
    if (!checkpoint.empty()) return 0;
    const std::string one = train_threads(1, text, checkpoint);
    std::printf("the parameters are %s\n", one == two ? "equal, bit for bit" : "different");
    return one == two ? 0 : 1;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "train_distributed: %s\n", problem.what());
    return 1;
  }
}
