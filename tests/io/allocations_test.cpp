// Files that meet a lack of memory on their way change nothing: every allocation of this executable
// may fail.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/save.hpp"
#include "mtp/io/tokenizer/train_tokenizer.hpp"
#include "support/allocations.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_allocations_cases {

namespace {

constexpr model_config config = [] {
  model_config small = tiny_config(head_kind::none, 0);
  small.num_hidden_layers = 1;  // few tensors: a call is made for each of its allocations
  return small;
}();

}  // namespace

TEST_CASE("a checkpoint that finds no memory is not loaded, and the run goes on as it was") {
  const testing::scratch_directory scratch;
  small_run<config> saved;
  saved.advance(3);
  io::save_checkpoint(scratch / "run", saved.training);

  small_run<config> run;
  run.advance(1);
  io::save_checkpoint(scratch / "before", run.training);
  const run_state before = run.state();
  const auto unchanged = [&] { return static_cast<bool>(same_run(run.state(), before)); };
  CHECK(fail_each_allocation([&] { io::load_checkpoint(scratch / "run", run.training); },
                             unchanged,
                             [&] { io::load_checkpoint(scratch / "before", run.training); }) > 20);
  CHECK(same_run(run.state(), saved.state()));
}

TEST_CASE("a checkpoint is loaded with two MiB for each thread beside the model") {
  constexpr model_config wide{.vocab_size = 40000,
                              .hidden_size = 64,
                              .num_hidden_layers = 2,
                              .max_position_embeddings = 8,
                              .feed_forward = {.intermediate_size = 4000}};
  const testing::scratch_directory scratch;
  cpu_context context({.threads = 1});
  language_model<wide, cpu> model(context, seed{7});
  io::save_parameters(scratch / "x", model, io::llama_names);
  const long before = most_bytes = bytes_in_use.load();
  CHECK(io::load_pretrained(scratch / "x", model, io::llama_names).has_head());
  const long threads = static_cast<long>(std::max(std::thread::hardware_concurrency(), 1u));
  CHECK(most_bytes - before > 1 << 18);
  CHECK(most_bytes - before <= threads * (2 << 20));
}

TEST_CASE("a checkpoint of another program that finds no memory can be loaded later") {
  const testing::scratch_directory scratch;
  cpu_context context({.threads = 1});
  const language_model<config, cpu> saved(context, seed{7});
  io::save_parameters(scratch / "x", saved, io::llama_names);
  language_model<config, cpu> model(context, seed{8});
  index_t tensors = 0;
  const auto load = [&] {
    tensors = io::load_pretrained(scratch / "x", model, io::llama_names).tensors;
  };
  // It does without more threads.
  CHECK(fail_each_allocation(
            load, [] { return true; }, [] {}) > 20);
  load();
  CHECK(tensors > 0);
  CHECK(std::memcmp(model.values().data(),
                    saved.values().data(),
                    static_cast<std::size_t>(saved.values().count()) * sizeof(float)) == 0);
}

TEST_CASE("parameters that find no memory are not loaded, into bf16 neither") {
  const testing::scratch_directory scratch;
  small_run<config> saved;
  saved.advance(3);
  io::save_checkpoint(scratch / "run", saved.training);

  cpu_context context({.threads = 1});
  language_model<config, cpu, bf16> model(context, seed{7});
  const auto values = model.values();
  const std::vector<bf16> before(values.data(), values.data() + values.count());
  CHECK(fail_each_allocation(
            [&] { io::load_parameters(scratch / "run", model); },
            [&] {
              return std::memcmp(values.data(), before.data(), before.size() * sizeof(bf16)) == 0;
            }) > 20);
}

TEST_CASE("a checkpoint that finds no memory is not written, and the one before it stays") {
  const testing::scratch_directory scratch;
  small_run<config> run;
  run.advance(1);
  io::save_checkpoint(scratch / "run", run.training);
  const std::string before = testing::content(scratch / "run");
  run.advance(2);
  const run_state state = run.state();
  CHECK(fail_each_allocation([&] { io::save_checkpoint(scratch / "run", run.training); },
                             [&] {
                               return testing::content(scratch / "run") == before &&
                                      scratch.entries() == 1 &&
                                      static_cast<bool>(same_run(run.state(), state));
                             },
                             [&] { testing::put(scratch / "run", before); }) > 20);
}

TEST_CASE(
    "an encoder that has seen a text allocates nothing for it, and without memory changes "
    "nothing") {
  const std::string text = "the cat sat on the mat, 12345 times.\n " + std::string(300, 'x');
  const io::tokenizer tokens = io::train_tokenizer(text, 300);
  std::vector<token_t> to{1, 2, 3};
  CHECK(fail_each_allocation(
            [&] {
              std::vector<token_t> into{1, 2, 3};
              io::token_encoder encoder(tokens, 4);
              try {
                encoder.encode(text, into);
              } catch (...) {
                to = into;
                throw;
              }
            },
            [&] {
              return to == std::vector<token_t>{1, 2, 3};
            }) > 5);

  io::token_encoder encoder(tokens, 4);
  to.clear();
  encoder.encode(text, to);
  const std::vector<token_t> first = to;
  to.clear();
  const long before = allocations;
  encoder.encode(text, to);
  CHECK(allocations == before);
  CHECK(to == first);
  CHECK(tokens.decode(to) == text);
}

}  // namespace mtp::test::io_allocations_cases
