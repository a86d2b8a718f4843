// Checkpoints: a resumed run has the bits of one that was never interrupted, and a file that does
// not fit changes nothing.
#include "mtp/io/checkpoint.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_checkpoint_cases {

namespace {

using namespace mtp::io;
using mtp::testing::contains;
using mtp::testing::content;
using mtp::testing::file_size_limit;
using mtp::testing::put;
using mtp::testing::refusal;
using mtp::testing::scratch_directory;

constexpr model_config usual = tiny_config(head_kind::independent, 2);
using usual_run = small_run<usual>;
using usual_setup = small_setup<usual>;

using text_map = std::map<std::string, std::string>;

/// A run that has something in every field: moments, a skipped step, counters that differ.
usual_run& used_run() {
  static usual_run run;
  run.advance(4, {2});
  return run;
}

// ---- resuming -----------------------------------------------------------------------------------

struct interruption {
  std::int64_t after;
  std::vector<std::int64_t> poisoned;  // steps, counted from 0
  int threads;                         // of the resumed run
};

template <model_config Config>
void check_resumes() {
  INFO(std::string(name_of(Config.prediction.kind)));
  const scratch_directory scratch;
  const interruption cases[] = {
      {0, {}, 2},  // before the first step
      {2, {}, 3},  // in warm-up, which has 4 steps
      {6, {}, 1},
      {5, {1, 4}, 4},  // right behind a skipped step
      {5, {4, 5}, 1},  // between two skipped steps
      {8, {3}, 2},     // at the end
  };
  for (const interruption& here : cases) {
    CAPTURE(here.after);
    CAPTURE(here.threads);
    small_setup<Config> setup;
    setup.options.accumulation = 2;
    small_run<Config> whole(setup);
    whole.advance(8, here.poisoned);
    save_checkpoint(scratch / "whole", whole.training);

    small_run<Config> start(setup);
    start.advance(here.after, here.poisoned);
    save_checkpoint(scratch / "part", start.training);

    setup.threads = here.threads;
    setup.model_seed = {99};  // the file has every parameter
    small_run<Config> rest(setup);
    rest.advance(3, {0});  // what it did before does not matter either
    load_checkpoint(scratch / "part", rest.training);
    CHECK(same_run(rest.state(), start.state()));
    rest.advance(8, here.poisoned);
    CHECK(same_run(rest.state(), whole.state()));
    save_checkpoint(scratch / "rest", rest.training);
    CHECK((content(scratch / "rest") == content(scratch / "whole")));
  }
}

TEST_CASE("a resumed run is the uninterrupted one, bit by bit: independent head") {
  check_resumes<usual>();
}
TEST_CASE("a resumed run is the uninterrupted one, bit by bit: sequential head, all options") {
  check_resumes<flipped_config(head_kind::sequential, 2)>();
}
TEST_CASE("a resumed run is the uninterrupted one, bit by bit: no head") {
  check_resumes<tiny_config(head_kind::none, 0)>();
}

TEST_CASE("the limit of bad steps in a row counts across an interruption") {
  const scratch_directory scratch;
  usual_setup setup;
  setup.options.max_bad_steps = 2;
  usual_run start(setup), rest(setup);
  start.advance(3, {2});
  save_checkpoint(scratch / "part", start.training);
  load_checkpoint(scratch / "part", rest.training);
  CHECK_THROWS_AS(rest.poisoned_step(), error);
}

TEST_CASE("saving changes nothing, and the same state gives the same bytes") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  const run_state before = run.state();
  save_checkpoint(scratch / "a", run.training);
  CHECK(same_run(run.state(), before));
  save_checkpoint(scratch / "b", run.training);
  CHECK((content(scratch / "a") == content(scratch / "b")));
  usual_run again;
  load_checkpoint(scratch / "a", again.training);
  save_checkpoint(scratch / "a", again.training);
  CHECK((content(scratch / "a") == content(scratch / "b")));
  CHECK(scratch.entries() == 2);
}

TEST_CASE("a checkpoint holds every parameter and moment in rows, and says what it is") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "a", run.training);
  const safetensors_file file(scratch / "a");
  CHECK(file.verify());
  CHECK(file.metadata().at("format") == "mtp checkpoint 1");
  CHECK(file.metadata().at("state.step") == "4");
  CHECK(file.metadata().at("state.updates") == "3");
  CHECK(file.metadata().at("state.skipped") == "1");
  CHECK(file.metadata().at("config.head") == "independent");
  std::size_t tensors = 0;
  usual_run::layout.visit([&](const std::string& name, const parameter& p) {
    const std::pair<std::string, std::span<float>> arrays[] = {
        {"", run.values()}, {"optimizer.first.", run.first()}, {"optimizer.second.", run.second()}};
    for (const auto& [prefix, all] : arrays) {
      const std::string full_name = prefix + name;
      CAPTURE(full_name);
      const tensor_info* const info = file.find(full_name);
      REQUIRE(info != nullptr);
      CHECK(info->type == element::f32);
      CHECK(info->shape == (p.is_vector() ? std::vector<index_t>{p.outputs}
                                          : std::vector<index_t>{p.outputs, p.inputs}));
      std::vector<float> rows(static_cast<std::size_t>(info->count()));
      file.read(*info, 0, info->count(), reinterpret_cast<std::byte*>(rows.data()));
      CHECK(same_bits(rows, rows_of<float>(std::span<const float>(all), p)));
      ++tensors;
    }
  });
  CHECK(file.tensors().size() == tensors);
}

// ---- files that do not fit ----------------------------------------------------------------------

/// Loading is refused with all of `parts` in the message, and the run keeps its bits.
template <model_config Config>
void check_refused(small_run<Config>& run,
                   const std::filesystem::path& path,
                   const std::vector<std::string>& parts) {
  const run_state before = run.state();
  const std::string message = refusal([&] { load_checkpoint(path, run.training); });
  CAPTURE(message);
  CHECK_FALSE(message.empty());
  CHECK(contains(message, path.string()));
  for (const auto& part : parts) {
    CAPTURE(part);
    CHECK(contains(message, part));
  }
  CHECK(same_run(run.state(), before));
}

TEST_CASE("files that are missing or no checkpoints are refused") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  check_refused(run, scratch / "missing", {"No such file"});
  check_refused(run, scratch.path(), {"directory"});
  put(scratch / "empty", "");
  check_refused(run, scratch / "empty", {"too small"});
  put(scratch / "text", "Once upon a time there was a text that was no checkpoint.\n");
  check_refused(run, scratch / "text", {});
  write_safetensors(scratch / "tensors", {}, {{"format", "pt"}});
  check_refused(run, scratch / "tensors", {"format differs", "got pt"});
  write_safetensors(scratch / "bare", {});
  check_refused(run, scratch / "bare", {"no entry \"format\"", "is it a checkpoint?"});
}

TEST_CASE("truncated and prolonged checkpoints are refused") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "good", run.training);
  const std::string whole = content(scratch / "good");
  for (const std::size_t size : {std::size_t{1},
                                 std::size_t{7},
                                 std::size_t{8},
                                 std::size_t{100},
                                 whole.size() / 2,
                                 whole.size() - 1}) {
    CAPTURE(size);
    put(scratch / "part", whole.substr(0, size));
    check_refused(run, scratch / "part", {});
  }
  put(scratch / "more", whole + '\0');
  check_refused(run, scratch / "more", {});
}

TEST_CASE("a checkpoint with one wrong bit anywhere is refused") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "good", run.training);
  const std::string whole = content(scratch / "good");
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof(header));
  const random_stream random(seed{6}, 1);
  std::vector<std::uint64_t> places{0, 7, 8, header, header + 8, whole.size() - 1};
  for (std::uint64_t i = 0; i < 40; ++i) {
    places.push_back(random.below(2 * i, header + 8));        // names, settings, shapes
    places.push_back(random.below(2 * i + 1, whole.size()));  // mostly numbers
  }
  for (std::size_t i = 0; i < places.size(); ++i) {
    CAPTURE(places[i]);
    std::string damaged = whole;
    damaged[places[i]] = static_cast<char>(damaged[places[i]] ^ (1 << (i % 8)));
    put(scratch / "bad", damaged);
    check_refused(run, scratch / "bad", {});
  }
}

TEST_CASE("a checkpoint without its checksum is refused") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "good", run.training);
  std::string text = content(scratch / "good");
  const std::size_t at = text.find("\"checksum\"");
  REQUIRE(at != std::string::npos);
  text.replace(at, 10, "\"checksun\"");
  put(scratch / "bad", text);
  check_refused(run, scratch / "bad", {"no checksum"});
}

TEST_CASE("a checkpoint of another model is refused with the entry that differs") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  const auto check_model = [&](auto&& other, const std::vector<std::string>& parts) {
    save_checkpoint(scratch / "other", other.training);
    check_refused(run, scratch / "other", parts);
  };
  check_model(small_run<tiny_config(head_kind::sequential, 2)>(),
              {"config.head differs", "expected independent", "got sequential"});
  check_model(small_run<flipped_config(head_kind::sequential, 2)>(), {"config.concat differs"});
  check_model(small_run<tiny_config(head_kind::none, 0)>(), {"config.depth differs"});
}

TEST_CASE("a checkpoint of a run with other settings or another text is refused by their name") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "good", used_run().training);
  using change = std::function<void(usual_setup&)>;
  const std::vector<std::pair<std::string, change>> changes{
      {"run.batch", [](auto& s) { s.options.batch = 2; }},
      {"run.length", [](auto& s) { s.options.length = 6; }},
      {"run.accumulation", [](auto& s) { s.options.accumulation = 2; }},
      {"run.learning_rate.peak", [](auto& s) { s.options.learning_rate.peak *= 1 + 1e-15; }},
      {"run.learning_rate.floor", [](auto& s) { s.options.learning_rate.floor = 0; }},
      {"run.learning_rate.warmup_steps", [](auto& s) { s.options.learning_rate.warmup_steps = 5; }},
      {"run.learning_rate.total_steps", [](auto& s) { s.options.learning_rate.total_steps = 41; }},
      {"run.lambda.first", [](auto& s) { s.options.lambda.first = 0.31; }},
      {"run.lambda.second", [](auto& s) { s.options.lambda.second = 0.11; }},
      {"run.lambda.switch_at", [](auto& s) { s.options.lambda.switch_at = 0.6; }},
      {"run.beta1", [](auto& s) { s.options.optimizer.beta1 = 0.8; }},
      {"run.beta2", [](auto& s) { s.options.optimizer.beta2 = 0.9; }},
      {"run.epsilon", [](auto& s) { s.options.optimizer.epsilon = 1e-7; }},
      {"run.weight_decay", [](auto& s) { s.options.optimizer.weight_decay = 0; }},
      {"run.clip_norm", [](auto& s) { s.options.clip_norm = 0; }},
      {"run.max_bad_steps", [](auto& s) { s.options.max_bad_steps = 6; }},
      {"run.loss.aux_loss_alpha", [](auto& s) { s.options.loss.aux_loss_alpha = 0.01; }},
      {"run.bias_update_speed", [](auto& s) { s.options.bias_update_speed = 0; }},
      {"run.loss.lambda", [](auto& s) { s.options.loss.lambda = 0.5; }},
      {"run.loss.weight.0", [](auto& s) { s.options.loss.weights[0] = 0.5; }},
      {"run.loss.weight.2", [](auto& s) { s.options.loss.weights[2] = 0.5; }},
      {"run.loss.normalization",
       [](auto& s) { s.options.loss.normalization = loss_normalization::valid_targets; }},
      {"run.loss.scope", [](auto& s) { s.options.loss.scope = gradient_scope::detached; }},
      {"run.data.seed", [](auto& s) { s.data_seed = {2}; }},
      {"run.data.validation_share", [](auto& s) { s.validation_share = 0.2; }},
      {"run.data.text", [](auto& s) { s.text[7] ^= 1; }},
      {"run.data.text", [](auto& s) { s.text.push_back(3); }},
      {"run.data.text",
       [](auto& s) {
         s.document_starts = {0, 150, 155, 401};
       }},
  };
  for (const auto& each : changes) {
    const auto& entry = each.first;
    CAPTURE(entry);
    usual_setup setup;
    each.second(setup);
    usual_run run(setup);
    run.advance(1);
    check_refused(run, scratch / "good", {entry + " differs: expected ", ", got "});
  }
  // Neither decides on what a run computes.
  usual_setup setup;
  setup.threads = 3;
  setup.model_seed = {50};
  usual_run run(setup);
  CHECK(refusal([&] { load_checkpoint(scratch / "good", run.training); }).empty());
  CHECK(same_run(run.state(), used_run().state()));
}

/// The content of a file, to be changed and written again. The checksum is right in the new file.
struct parts_of_file {
  explicit parts_of_file(const std::filesystem::path& path) {
    const safetensors_file file(path);
    metadata = file.metadata();
    for (const tensor_info& info : file.tensors()) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(info.end - info.begin));
      file.read(info, 0, info.count(), bytes.data());
      tensors.push_back({info.name, info.type, info.shape, {}});
      data.push_back(std::move(bytes));
    }
  }
  void write(const std::filesystem::path& path) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].read = [&bytes = data[i], size = element_size(tensors[i].type)](
                            index_t first, index_t count, std::byte* to) {
        std::memcpy(to, bytes.data() + first * size, static_cast<std::size_t>(count * size));
      };
    }
    write_safetensors(path, tensors, metadata);
  }
  std::size_t index(const std::string& name) const {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
    REQUIRE(found != tensors.end());
    return static_cast<std::size_t>(found - tensors.begin());
  }
  void remove(const std::string& name) {
    const auto at = static_cast<std::ptrdiff_t>(index(name));
    tensors.erase(tensors.begin() + at);
    data.erase(data.begin() + at);
  }
  void add(const std::string& name, element type, std::vector<index_t> shape, std::size_t bytes) {
    tensors.push_back({name, type, std::move(shape), {}});
    data.emplace_back(bytes);
  }

  text_map metadata;
  std::vector<tensor_source> tensors;
  std::vector<std::vector<std::byte>> data;
};

// ---- schedules ----------------------------------------------------------------------------------

usual_setup with_own_schedules(const std::string& rate,
                               const std::string& lambda,
                               const std::string& weights) {
  usual_setup setup;
  setup.options.learning_rate = {.total_steps = 40, .own = own_schedule(rate, [](index_t step) {
                                                      return 1e-2 / static_cast<double>(step + 1);
                                                    })};
  setup.options.lambda = own_schedule(lambda, [](index_t step) { return step < 2 ? 0.5 : 0.25; });
  setup.options.weights = own_schedule(weights, [](index_t step) {
    return depth_weights<2>{1, 0.5, static_cast<double>(step % 2)};
  });
  return setup;
}

TEST_CASE("a run with own schedules resumes to the bits of the uninterrupted one") {
  const scratch_directory scratch;
  const usual_setup setup = with_own_schedules("rate", "lambda", "weights");
  usual_run whole(setup), start(setup), rest(setup);
  whole.advance(6);
  start.advance(3);
  save_checkpoint(scratch / "part", start.training);
  load_checkpoint(scratch / "part", rest.training);
  rest.advance(6);
  CHECK(same_run(rest.state(), whole.state()));
}

TEST_CASE("a run under another name of a schedule is refused with what was saved and what came") {
  const scratch_directory scratch;
  usual_run saved(with_own_schedules("rate", "lambda", "weights"));
  saved.advance(2);
  save_checkpoint(scratch / "own", saved.training);
  save_checkpoint(scratch / "usual", used_run().training);
  const auto refused = [&](const usual_setup& setup, const char* file, const std::string& part) {
    usual_run run(setup);
    run.advance(1);
    check_refused(run, scratch / file, {part});
  };
  refused(with_own_schedules("faster", "lambda", "weights"),
          "own",
          "run.learning_rate.schedule differs: expected own schedule \"faster\", got own schedule "
          "\"rate\"");
  refused(with_own_schedules("rate", "Lambda", "weights"),
          "own",
          "run.lambda.schedule differs: expected own schedule \"Lambda\", got own schedule "
          "\"lambda\"");
  refused(with_own_schedules("rate", "lambda", "others"),
          "own",
          "run.loss.weights.schedule differs: expected own schedule \"others\", got own schedule "
          "\"weights\"");
  // The library's schedules have names of their own, which none of a program's is taken for.
  usual_setup mixed = with_own_schedules("warm-up and cosine", "switch", "constant");
  refused(mixed, "usual", "differs: expected own schedule \"");
  mixed.options.learning_rate = usual_setup{}.options.learning_rate;
  refused(
      mixed, "usual", "run.lambda.schedule differs: expected own schedule \"switch\", got switch");
  mixed.options.lambda = usual_setup{}.options.lambda;
  refused(mixed,
          "usual",
          "run.loss.weights.schedule differs: expected own schedule \"constant\", got constant");
  refused(usual_setup{}, "own", "differs: expected ");
  usual_setup longer = with_own_schedules("rate", "lambda", "weights");
  longer.options.learning_rate.total_steps = 41;
  refused(longer, "own", "run.learning_rate.total_steps differs: expected 41, got 40");
}

TEST_CASE("a checkpoint from before schedules had names is of the library's own") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "new", used_run().training);
  parts_of_file parts(scratch / "new");
  for (const char* entry :
       {"run.learning_rate.schedule", "run.lambda.schedule", "run.loss.weights.schedule"}) {
    CHECK(parts.metadata.erase(entry) == 1);
  }
  parts.write(scratch / "old");
  usual_run resumed;
  load_checkpoint(scratch / "old", resumed.training);
  CHECK(same_run(resumed.state(), used_run().state()));
  usual_run own(with_own_schedules("rate", "lambda", "weights"));
  check_refused(own, scratch / "old", {"run.", ".schedule differs: expected own schedule"});
}

TEST_CASE("a file written again is still the checkpoint") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "good", used_run().training);
  parts_of_file parts(scratch / "good");
  parts.write(scratch / "again");
  CHECK((content(scratch / "again") == content(scratch / "good")));
}

TEST_CASE("all tensors that are missing, unexpected or of another shape or type are listed") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "good", run.training);
  const auto check_parts = [&](const std::function<void(parts_of_file&)>& change,
                               const std::vector<std::string>& messages) {
    parts_of_file parts(scratch / "good");
    change(parts);
    parts.write(scratch / "bad");
    check_refused(run, scratch / "bad", messages);
  };
  check_parts([](auto& p) { p.remove("norm.weight"); }, {"missing: norm.weight"});
  check_parts([](auto& p) { p.remove("optimizer.second.norm.weight"); },
              {"missing: optimizer.second.norm.weight"});
  check_parts([](auto& p) { p.add("extra", element::f32, {3}, 12); }, {"unexpected: extra"});
  check_parts(
      [](auto& p) {
        p.tensors[p.index("embed_tokens.weight")].shape = {12, 19};
      },
      {"embed_tokens.weight: expected shape [19, 12], got [12, 19]"});
  check_parts(
      [](auto& p) {
        p.remove("optimizer.first.norm.weight");
        p.add("optimizer.first.norm.weight", element::f64, {12}, 96);
      },
      {"optimizer.first.norm.weight: expected F32, got F64"});
  check_parts(
      [](auto& p) {
        p.remove("norm.weight");
        p.remove("lm_head.weight");
        p.tensors[p.index("embed_tokens.weight")].shape = {228};
        p.add("extra", element::u8, {}, 1);
      },
      {"missing: norm.weight",
       "missing: lm_head.weight",
       "embed_tokens.weight: expected shape [19, 12], got [228]",
       "unexpected: extra"});
}

TEST_CASE("entries of the state that are missing or no numbers are refused by name") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  save_checkpoint(scratch / "good", run.training);
  parts_of_file parts(scratch / "good");
  const text_map good = parts.metadata;
  for (const std::string entry :
       {"state.step", "state.updates", "state.skipped", "state.skipped_in_a_row"}) {
    for (const char* const value : {"", "-1", "4x", "four", "99999999999999999999", " 4", "4.0"}) {
      CAPTURE(value);
      parts.metadata = good;
      parts.metadata[entry] = value;
      parts.write(scratch / "bad");
      check_refused(run, scratch / "bad", {"\"" + entry + "\""});
    }
    parts.metadata = good;
    parts.metadata.erase(entry);
    parts.write(scratch / "bad");
    check_refused(run, scratch / "bad", {"\"" + entry + "\""});
  }
  for (const std::string entry : {"format", "config.hidden_size", "run.batch"}) {
    parts.metadata = good;
    parts.metadata.erase(entry);
    parts.write(scratch / "bad");
    check_refused(run, scratch / "bad", {"no entry \"" + entry + "\""});
  }
  parts.metadata = good;
  parts.metadata["format"] = "mtp checkpoint 2";
  parts.write(scratch / "bad");
  check_refused(run, scratch / "bad", {"format differs", "mtp checkpoint 2"});
}

// ---- disks --------------------------------------------------------------------------------------

TEST_CASE("a full disk is an error that leaves the old checkpoint and the run as they were") {
  const scratch_directory scratch;
  usual_run run, uninterrupted;
  run.advance(2);
  save_checkpoint(scratch / "checkpoint", run.training);
  const std::string old = content(scratch / "checkpoint");
  const run_state saved = run.state();
  run.advance(3);
  const run_state before = run.state();
  for (const std::size_t room : {std::size_t{0}, std::size_t{1000}, old.size() - 1}) {
    CAPTURE(room);
    std::string message;
    {
      const file_size_limit limit(room);
      message = refusal([&] { save_checkpoint(scratch / "checkpoint", run.training); });
    }
    CHECK(contains(message, (scratch / "checkpoint").string()));
    CHECK(same_run(run.state(), before));
    CHECK((content(scratch / "checkpoint") == old));
    CHECK(scratch.entries() == 1);
  }
  usual_run from_old;
  load_checkpoint(scratch / "checkpoint", from_old.training);
  CHECK(same_run(from_old.state(), saved));
  // Training goes on, and so does saving once there is room.
  run.advance(5);
  uninterrupted.advance(5);
  CHECK(same_run(run.state(), uninterrupted.state()));
  save_checkpoint(scratch / "checkpoint", run.training);
  load_checkpoint(scratch / "checkpoint", from_old.training);
  CHECK(same_run(from_old.state(), run.state()));
}

TEST_CASE("a folder that does not exist is an error when saving") {
  const scratch_directory scratch;
  usual_run& run = used_run();
  const run_state before = run.state();
  const auto path = scratch / "nowhere" / "checkpoint";
  CHECK(contains(refusal([&] { save_checkpoint(path, run.training); }), path.string()));
  CHECK(same_run(run.state(), before));
}

// ---- parameters alone ---------------------------------------------------------------------------

template <model_config Config>
std::vector<float> values_of(small_run<Config>& run) {
  return {run.values().begin(), run.values().end()};
}

TEST_CASE("load_parameters takes the parameters of a checkpoint whatever the settings of its run") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "a", used_run().training);
  usual_setup setup;
  setup.options.batch = 1;
  setup.model_seed = {7};
  usual_run other(setup);
  load_parameters(scratch / "a", other.model);
  CHECK(same_bits(values_of(other), values_of(used_run())));
  CHECK(other.state().counters == std::vector<std::int64_t>{0, 0, 0, 0});
}

TEST_CASE("load_parameters finds the trunk in the checkpoint of a model with a head") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "a", used_run().training);
  small_run<tiny_config(head_kind::none, 0)> plain;
  load_parameters(scratch / "a", plain.model);
  plain.layout.visit([&](const std::string& name, const parameter& p) {
    bool found = false;
    usual_run::layout.visit([&](const std::string& other, const parameter& q) {
      if (other == name) {
        found = true;
        CAPTURE(name);
        CHECK(same_bits(rows_of<float>(std::span<const float>(plain.values()), p),
                        rows_of<float>(std::span<const float>(used_run().values()), q)));
      }
    });
    CHECK(found);
  });
}

constexpr model_config written = flipped_config(head_kind::sequential, 2);
constexpr model_config longer = [] {
  model_config other = written;
  other.max_position_embeddings = 96;
  return other;
}();
/// With tensors of the same names and shapes, and another meaning.
constexpr model_config other_meaning = [] {
  model_config other = longer;
  other.attention.num_attention_heads = 8;
  other.attention.num_key_value_heads = 4;
  other.attention.head_dim = 2;
  other.attention.rope_theta = 1e6f;
  other.attention.partial_rotary_factor = 1;
  other.rms_norm_eps = 1e-6f;
  other.attention.qk_norm = false;
  other.prediction.concat = concat_order::hidden_first;
  other.prediction.hidden_tap = norm_tap::post_norm;
  other.prediction.recycle_tap = norm_tap::post_norm;
  return other;
}();

TEST_CASE("load_parameters lists the fields that give the parameters another meaning") {
  const scratch_directory scratch;
  small_run<written> saved;
  save_checkpoint(scratch / "a", saved.training);
  small_run<other_meaning> run;
  const run_state before = run.state();
  const std::string message = refusal([&] { load_parameters(scratch / "a", run.model); });
  for (const std::string line : {"config.num_attention_heads: expected 8, got 4",
                                 "config.num_key_value_heads: expected 4, got 2",
                                 "config.head_dim: expected 2, got 4",
                                 "config.rope_theta: expected ",
                                 "config.partial_rotary_factor: expected 1, got 0.5",
                                 "config.rms_norm_eps: expected ",
                                 "config.concat: expected hidden_first, got embedding_first",
                                 "config.hidden_tap: expected post_norm, got pre_norm",
                                 "config.recycle_tap: expected post_norm, got pre_norm"}) {
    CAPTURE(line);
    CAPTURE(message);
    CHECK(contains(message, line));
  }
  CHECK_FALSE(contains(message, "max_position"));
  CHECK_FALSE(contains(message, "config.head:"));
  CHECK(same_run(run.state(), before));
  // Longer sequences are no other meaning.
  small_run<longer> long_run;
  load_parameters(scratch / "a", long_run.model);
  CHECK(same_bits(values_of(long_run), values_of(saved)));
}

TEST_CASE("load_parameters lists everything that a file of a trunk lacks for a model with a head") {
  const scratch_directory scratch;
  small_run<tiny_config(head_kind::none, 0)> plain;
  save_checkpoint(scratch / "plain", plain.training);
  usual_run& run = used_run();
  const run_state before = run.state();
  const std::string message = refusal([&] { load_parameters(scratch / "plain", run.model); });
  int names = 0;
  usual_run::layout.head.visit([&](const std::string& name, const parameter&) {
    CAPTURE(name);
    CHECK(contains(message, "missing: " + name));
    ++names;
  });
  CHECK(names > 3);
  CHECK_FALSE(contains(message, "missing: embed_tokens.weight"));
  CHECK_FALSE(contains(message, "unexpected"));
  CHECK(same_run(run.state(), before));
}

TEST_CASE("load_parameters points to load_pretrained for the names of other programs") {
  const scratch_directory scratch;
  usual_run run;
  const run_state before = run.state();
  const auto zeros = [](index_t, index_t count, std::byte* to) {
    std::fill_n(to, 4 * count, std::byte{0});
  };
  for (const char* name : {"model.embed_tokens.weight", "tok_embeddings.weight", "embed"}) {
    const std::vector<tensor_source> sources{{name, element::f32, {2, 3}, zeros}};
    write_safetensors(scratch / "file", sources, {});
    const std::string message = refusal([&] { load_parameters(scratch / "file", run.model); });
    CAPTURE(message);
    CHECK(contains(message, "missing: embed_tokens.weight"));
    CHECK(contains(message, "io::load_pretrained") == (std::string(name) != "embed"));
  }
  CHECK(same_run(run.state(), before));
}

TEST_CASE("load_parameters takes a file without a checksum, and refuses one with a wrong one") {
  const scratch_directory scratch;
  save_checkpoint(scratch / "a", used_run().training);
  std::string text = content(scratch / "a");
  usual_setup setup;
  setup.model_seed = {7};
  usual_run other(setup);
  const run_state before = other.state();
  std::string damaged = text;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  put(scratch / "b", damaged);
  CHECK(contains(refusal([&] { load_parameters(scratch / "b", other.model); }), "checksum"));
  CHECK(same_run(other.state(), before));
  text.replace(text.find("\"checksum\""), 10, "\"checksun\"");
  put(scratch / "b", text);
  load_parameters(scratch / "b", other.model);
  CHECK(same_bits(values_of(other), values_of(used_run())));
}

}  // namespace

}  // namespace mtp::test::io_checkpoint_cases
