// Several ranks train one model: the passes of a step are divided among them, and so are the
// moments of AdamW. Whatever the number of ranks, the parameters have the same bits.
//
//   scripts/ranks 2 build/release/examples/train_distributed [--stages P] [TEXT [CHECKPOINT]]
//
// starts two processes of MPI. With --stages P, each P of them are a pipeline: a rank has a part of
// the model's blocks. With a checkpoint, a run goes on where it ended, on any number of ranks and
// stages. Started as one process, the program makes two threads the ranks, and compares what they
// have learned with one rank.
#include <bit>
#include <cstddef>
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
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/io/pipeline_checkpoint.hpp"
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
struct settings {
  std::string text = "docs/mtp.md", checkpoint;
  int stages = 0;  // of a pipeline; 0: every rank has the whole model
};

std::string checksum_of(std::span<const std::byte> values) {
  mtp::xxh64 sum;
  sum.update(values);
  return mtp::to_hex(sum.digest());
}

/// The loop is the same for both trainers.
template <class Trainer>
void run(Trainer& trainer, const std::string& checkpoint) {
  auto& group = trainer.group();
  if (!checkpoint.empty() && std::filesystem::exists(checkpoint)) {
    mtp::io::load_checkpoint(checkpoint, trainer);
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
}

/// What every rank does if each has the whole model. Returns the checksum of the parameters.
template <class Communicator>
std::string train_copies(Communicator& group,
                         const mtp::dataset<>& data,
                         const mtp::train_options<config>& options,
                         const std::string& checkpoint) {
  using trainer_type = mtp::trainer<config, mtp::cpu, float, std::uint8_t, Communicator>;
  mtp::context<mtp::cpu> context({.threads = 1});
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{42});  // the same on every rank
  trainer_type trainer(context, model, data, options, group);
  if (group.rank() == 0) {
    const auto moments = trainer.optimizer().first().count();
    std::printf("%d ranks, moments of %td parameters on rank 0\n", group.size(), moments);
  }
  run(trainer, checkpoint);
  const auto values = model.values();
  return checksum_of(
      std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.count()))));
}

/// What every rank does if it has a stage of the model, in one of size / stages copies.
template <class Communicator>
std::string train_stages(Communicator& group,
                         int stages,
                         const mtp::dataset<>& data,
                         const mtp::train_options<config>& options,
                         const std::string& checkpoint) {
  using trainer_type = mtp::pipeline_trainer<config, mtp::cpu, float, std::uint8_t, Communicator>;
  mtp::check(stages > 0 && group.size() % stages == 0,
             "--stages: expected a divisor of the number of ranks, got ",
             stages);
  constexpr auto placement = mtp::head_placement::last_stage;
  const int copies = group.size() / stages;
  const auto plan = trainer_type::plan_of(group.size(), options, placement, copies);
  mtp::context<mtp::cpu> context({.threads = 1});
  mtp::stage_model<config, mtp::cpu> model(context, mtp::seed{42}, plan.stage(group.rank()));
  trainer_type trainer(context, model, data, options, group, placement, copies);
  if (group.rank() == 0) {
    std::printf("%d x %d stages, %td parameters of rank 0\n", copies, stages, model.layout.storage);
  }
  run(trainer, checkpoint);
  // Every parameter belongs to one rank. As integers, a sum with zeros has its bits.
  std::vector<std::uint32_t> bits(mtp::language_model<config, mtp::cpu>::layout.storage);
  for (const mtp::parameter_range& range : trainer.saved_parts()) {
    const float* const own = model.values().data() + trainer.optimizer().begin() + range.local;
    for (mtp::index_t i = 0; i < range.count; ++i) {
      bits[static_cast<std::size_t>(range.begin + i)] = std::bit_cast<std::uint32_t>(own[i]);
    }
  }
  group.all_reduce(std::span(bits), mtp::reduction::sum);
  return checksum_of(std::as_bytes(std::span(bits)));
}

/// Returns the checksum of the parameters.
template <class Communicator>
std::string train(Communicator& group, const settings& chosen) {
  const auto data = mtp::together(group, [&] {  // what one rank cannot read, all throw
    using trainer_type = mtp::trainer<config, mtp::cpu>;
    return mtp::dataset<>(bytes_of(chosen.text), {}, {.window = trainer_type::window_of(48)});
  });
  const mtp::train_options<config> options{
      .batch = 4,
      .length = 48,
      .accumulation = 4,  // passes of a step, and so the most ranks, or copies of a pipeline
      .learning_rate = {.peak = 5e-3, .warmup_steps = 10, .total_steps = steps},
      .sharding = mtp::optimizer_sharding::zero1};
  const std::string sum =
      chosen.stages == 0 ? train_copies(group, data, options, chosen.checkpoint)
                         : train_stages(group, chosen.stages, data, options, chosen.checkpoint);
  if (group.rank() == 0) std::printf("parameters %s\n", sum.c_str());
  return sum;
}

/// Threads as ranks. The checksum is that of rank 0.
std::string train_threads(int ranks, const settings& chosen) {
  std::string checksum;
  mtp::run_ranks(ranks, [&](mtp::thread_communicator& group) {
    const std::string own = train(group, chosen);
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
  settings chosen;
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() > 1 && words[0] == "--stages") {
    chosen.stages = std::atoi(words[1].c_str());
    words.erase(words.begin(), words.begin() + 2);
  }
  if (!words.empty()) chosen.text = words[0];
  if (words.size() > 1) chosen.checkpoint = words[1];
  if (is_one_of_several()) {
#ifdef MTP_EXAMPLE_MPI
    return mtp::mpi_session::run(
        argc, argv, [&](mtp::mpi_communicator& group) { train(group, chosen); });
#else
    std::fprintf(stderr, "train_distributed was built without MPI\n");
    return 1;
#endif
  }
  try {
    const std::string two = train_threads(2, chosen);
    if (!chosen.checkpoint.empty()) return 0;
    chosen.stages = 0;
    const std::string one = train_threads(1, chosen);
    std::printf("the parameters are %s\n", one == two ? "equal, bit for bit" : "different");
    return one == two ? 0 : 1;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "train_distributed: %s\n", problem.what());
    return 1;
  }
}
