// Files whose system calls fail: every call that reads and writes them may.
#include "support/system_calls.hpp"

#include <algorithm>
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/folder_lock.hpp"
#include "mtp/io/hidden_states.hpp"
#include "mtp/io/kept_checkpoints.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/save.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_system_calls_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

constexpr model_config config = [] {
  model_config small = tiny_config(head_kind::none, 0);
  small.num_hidden_layers = 1;
  return small;
}();

void write_file(const std::filesystem::path& path, const std::string& text) {
  atomic_file file(path);
  buffered_writer writer(file);
  writer.write(text);
  writer.flush();
  file.commit();
}

/// Reads a folder into a model.
void load(const std::filesystem::path& folder, language_model<config, cpu>& model) {
  static_cast<void>(load_pretrained(folder, model, llama_names));
}

/// The values of a model, with their padding.
std::vector<float> values_of(const language_model<config, cpu>& model) {
  const auto values = model.values();
  return {values.data(), values.data() + values.count()};
}

/// The names in a folder.
std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a file that is replaced is the old one or the new one whichever system call fails") {
  const scratch_directory scratch;
  write_file(scratch / "x", "old");
  const long calls = fault_at_each_call([&] { write_file(scratch / "x", "new one"); },
                                        [&](bool threw) {
                                          const std::string found = content(scratch / "x");
                                          CHECK((found == "new one" || (threw && found == "old")));
                                          write_file(scratch / "x", "old");
                                          // What a call could not remove, the next one has.
                                          CHECK(scratch.entries() == 1);
                                        });
  CHECK(calls > 12);
}

TEST_CASE("a file is read as it is or not at all whichever system call fails") {
  const scratch_directory scratch;
  const std::string text(3000, 'a');
  put(scratch / "x", text);
  std::string found;
  const long calls = fault_at_each_call(
      [&] {
        const input_file file(scratch / "x");
        std::string bytes(text.size(), '\0');
        file.read_exactly(0, std::as_writable_bytes(std::span(bytes)));
        found = bytes;
      },
      [&](bool threw) { CHECK(std::exchange(found, "") == (threw ? "" : text)); });
  CHECK(calls >= 4);
}

TEST_CASE("a checkpoint is the old one or the new one whichever system call fails") {
  const scratch_directory scratch;
  small_run<config> run;
  run.advance(1);
  save_checkpoint(scratch / "run", run.training);
  const std::string old = content(scratch / "run");
  run.advance(2);
  const run_state before = run.state();
  save_checkpoint(scratch / "new", run.training);
  const std::string wanted = content(scratch / "new");
  std::filesystem::remove(scratch / "new");
  const long calls = fault_at_each_call([&] { save_checkpoint(scratch / "run", run.training); },
                                        [&](bool threw) {
                                          const std::string found = content(scratch / "run");
                                          CHECK((found == wanted || (threw && found == old)));
                                          CHECK(same_run(run.state(), before));
                                          write_file(scratch / "run", old);
                                          CHECK(scratch.entries() == 1);
                                        });
  CHECK(calls > 12);
}

TEST_CASE("the checkpoint that is replaced can be kept whichever system call fails") {
  const scratch_directory scratch;
  const auto latest = scratch / "run", kept = kept_checkpoint(latest, 1);
  small_run<config> run, old;
  old.advance(1);
  run.advance(2);
  const auto begin = [&] {
    std::filesystem::remove(kept);
    save_checkpoint(latest, old.training);
  };
  begin();
  const long calls = fault_at_each_call([&] { save_and_keep(latest, run.training, 2); },
                                        [&](bool threw) {
                                          const auto step = step_of_checkpoint(latest);
                                          CHECK((step == 2 || (threw && step == 1)));
                                          small_run<config> loaded;
                                          load_checkpoint(latest, loaded.training);
                                          if (std::filesystem::exists(kept)) {
                                            load_checkpoint(kept, loaded.training);
                                            CHECK(loaded.training.state().step == 1);
                                          } else {
                                            CHECK((threw || faults > 0));
                                          }
                                          begin();
                                          CHECK(scratch.entries() == 1);
                                        });
  CHECK(calls > 20);
}

TEST_CASE("a run goes on as it was whichever system call fails while a checkpoint is loaded") {
  const scratch_directory scratch;
  small_run<config> saved;
  saved.advance(3);
  save_checkpoint(scratch / "run", saved.training);
  small_run<config> run;
  run.advance(1);
  save_checkpoint(scratch / "before", run.training);
  const run_state before = run.state(), wanted = saved.state();
  const long calls = fault_at_each_call([&] { load_checkpoint(scratch / "run", run.training); },
                                        [&](bool threw) {
                                          CHECK(same_run(run.state(), threw ? before : wanted));
                                          load_checkpoint(scratch / "before", run.training);
                                        });
  CHECK(calls > 6);
}

TEST_CASE("a folder holds a whole checkpoint or says what it lacks whichever system call fails") {
  cpu_context context({.threads = 1});
  const language_model<config, cpu> saved(context, seed{7});
  language_model<config, cpu> model(context, seed{8});
  std::optional<scratch_directory> scratch(std::in_place);
  const long calls = fault_at_each_call(
      [&] { save_parameters(*scratch / "x", saved, llama_names, {.shard_bytes = 2000}); },
      [&](bool threw) {
        // The index comes last: where it is, all is.
        const auto names = names_in(*scratch / "x");
        const bool whole =
            std::count(names.begin(), names.end(), "model.safetensors.index.json") > 0;
        CHECK((whole || threw));
        if (whole) {
          load(*scratch / "x", model);
          CHECK(same_bits(values_of(model), values_of(saved)));
        } else {
          CHECK(!refusal([&] { load(*scratch / "x", model); }).empty());
        }
        scratch.emplace();
        std::filesystem::create_directory(*scratch / "x");
      });
  CHECK(calls > 30);
}

TEST_CASE("parameters of a folder are read whole or refused whichever system call fails") {
  const scratch_directory scratch;
  cpu_context context({.threads = 2});
  const language_model<config, cpu> saved(context, seed{7});
  save_parameters(scratch / "x", saved, llama_names, {.shard_bytes = 2000});
  language_model<config, cpu> model(context, seed{8});
  const long calls = fault_at_each_call([&] { load(scratch / "x", model); },
                                        [&](bool threw) {
                                          if (!threw)
                                            CHECK(same_bits(values_of(model), values_of(saved)));
                                          model = language_model<config, cpu>(context, seed{8});
                                        });
  CHECK(calls > 15);
}

TEST_CASE("hidden states that were written stay whichever system call fails behind them") {
  constexpr hidden_states_shape shape{.rows = 5, .width = 3, .block = 4};
  constexpr hidden_states_origin origin{.model = 1, .tokens = 2, .configuration = 3};
  const std::vector<bf16> first(12, bf16(1.0f)), second(3, bf16(2.0f));
  std::optional<scratch_directory> scratch;
  const auto begin = [&] {
    scratch.emplace();
    hidden_states_file file(*scratch / "x", shape, origin);
    file.append(first);
  };
  begin();
  float last = 0;
  const long calls = fault_at_each_call(
      [&] {
        hidden_states_file file(*scratch / "x", shape, origin);
        if (!file.complete()) file.append(second);
        last = static_cast<float>(file.rows()[14]);
      },
      [&](bool threw) {
        CHECK(std::exchange(last, 0.0f) == (threw ? 0.0f : 2.0f));
        hidden_states_file file(*scratch / "x", shape, origin);
        CHECK((file.complete() || (threw && file.written() == 1)));
        if (!file.complete()) file.append(second);
        CHECK(static_cast<float>(file.rows()[0]) == 1.0f);
        CHECK(static_cast<float>(file.rows()[14]) == 2.0f);
        begin();
      });
  CHECK(calls > 8);
}

TEST_CASE("a folder is locked or not whichever system call fails") {
  const scratch_directory scratch;
  const long calls =
      fault_at_each_call([&] { const folder_lock lock(scratch.path()); },
                         [&](bool) {
                           const folder_lock lock(scratch.path());
                           CHECK(!refusal([&] { folder_lock(scratch.path()); }).empty());
                         });
  CHECK(scratch.entries() == 0);
  CHECK(calls > 6);
}

}  // namespace mtp::test::io_system_calls_cases
