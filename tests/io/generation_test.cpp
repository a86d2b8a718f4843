// Generation that is saved and restored goes on to the bit; damaged files change nothing.
#include "mtp/io/generation.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/model/quantized_model.hpp"
#include "support/decoding.hpp"

namespace mtp::test::io_generation_cases {

namespace {

using testing::content;
using testing::put;
using tokens_type = std::vector<token_t>;

template <model_config Config>
using batch_of = batch_generator<Config, cpu>;

template <model_config Config>
void prepare(language_model<Config, cpu>& model) {
  make_perfect(model);
  add_noise(model, 0.3);
}

struct order {
  tokens_type prompt;
  generate_options<float, cpu> options;
};

/// Prompts of one token to two pieces; greedy and sampled, with every option somewhere.
std::vector<order> orders(int depth) {
  std::vector<order> all;
  const index_t lengths[] = {1, 9, 70, 3, 12, 30};
  for (index_t i = 0; i < 6; ++i) {
    order made{random_tokens(lengths[i], 19, static_cast<std::uint64_t>(i)), {}};
    auto& options = made.options;
    options.mode = i == 3 ? decode_mode::plain : decode_mode::speculative;
    options.max_new_tokens = 11 + 2 * i;
    options.log_probabilities = i % 2 == 0;
    options.num_draft_tokens = i == 4 ? depth / 2 : -1;
    options.schedule = i == 5 ? draft_schedule::adaptive : draft_schedule::constant;
    options.stop = {{1, 2, 3}, {}, {18}};
    if (i != 1) {
      options.sampling.temperature = 0.5 + 0.3 * static_cast<double>(i);
      options.sampling.seed = seed{static_cast<std::uint64_t>(-3)};
      options.sampling.sequence = static_cast<std::uint32_t>(i);
    }
    if (i % 3 == 2) {
      options.min_new_tokens = 8;
      options.stop_tokens = {4, 11, 4};
      options.sampling.logit_bias = {{3, 1.5f}, {6, -std::numeric_limits<float>::infinity()}};
      options.sampling.repetition_penalty = 1.3;
      options.sampling.frequency_penalty = 0.1;
      options.sampling.presence_penalty = 0.7;
      options.sampling.drafts = draft_choice::most_likely;
    }
    if (i % 3 == 0) {
      options.sampling.top_k = 9;
      options.sampling.top_p = 0.97;
      options.sampling.min_p = 0.01;
    }
    all.push_back(made);
  }
  return all;
}

template <class Generation>
void check_same(const Generation& actual, const Generation& expected, bool same_passes) {
  CHECK(actual.tokens == expected.tokens);
  CHECK(same_bits(actual.log_probabilities, expected.log_probabilities));
  CHECK(actual.end == expected.end);
  if (same_passes) {
    CHECK(actual.forward_passes == expected.forward_passes);
    CHECK(actual.drafted == expected.drafted);
    CHECK(actual.accepted == expected.accepted);
    CHECK(actual.tree_cycles == expected.tree_cycles);
    CHECK(actual.tree_drafts == expected.tree_drafts);
    CHECK(actual.other_branches == expected.other_branches);
  }
}

/// Saves behind every number of cycles, and goes on with other slots.
template <model_config Config>
void check_every_cut() {
  INFO(std::string(name_of(Config.prediction.kind)));
  const testing::scratch_directory folder;
  const auto path = folder / "generation.safetensors";
  cpu_context context({.threads = 1});
  language_model<Config, cpu> model(context, seed{1});
  prepare(model);
  const auto all = orders(Config.prediction.depth);
  const auto submit_all = [&](batch_of<Config>& batch) {
    for (const order& each : all) {
      batch.submit(each.prompt, each.options);
    }
  };
  batch_of<Config> whole(context, model, 2);
  submit_all(whole);
  whole.run();
  bool is_left = true;
  for (index_t cycles = 0; is_left; ++cycles) {
    CAPTURE(cycles);
    batch_of<Config> first(context, model, 2), second(context, model, 1 + cycles % 4);
    submit_all(first);
    is_left = true;
    for (index_t i = 0; i < cycles; ++i) {
      is_left = first.run_cycle();
    }
    io::save_generation(path, first);
    io::load_generation(path, second);
    for (index_t i = 0; i < 6; ++i) {
      CHECK(second.result(i).tokens == first.result(i).tokens);
    }
    // What was saved goes on as if nothing had happened.
    first.run();
    second.run();
    for (index_t i = 0; i < 6; ++i) {
      CAPTURE(i);
      check_same(first.take(i), whole.result(i), i != 5);
      check_same(second.take(i), whole.result(i), i != 5);
    }
    CHECK(second.submit(all[0].prompt, all[0].options) == 6);
  }
}

constexpr auto config = spoken_config(head_kind::sequential, 2);
constexpr auto same_but_deeper = spoken_config(head_kind::sequential, 3);

struct office {
  testing::scratch_directory folder;
  std::filesystem::path path = folder / "generation.safetensors";
  cpu_context context{{.threads = 1}};
  language_model<config, cpu> model{context, seed{3}};
  batch_of<config> batch{context, model, 2};
  batch_of<config> other{context, model, 1};

  /// A request at work, a finished one, and one that waits.
  void save() {
    generate_options<float, cpu> options{.max_new_tokens = 9, .stop = {{1, 2}, {3}}};
    options.log_probabilities = true;
    options.sampling.logit_bias = {{2, 0.5f}};
    batch.submit(random_tokens(4, config.vocab_size, 1), options);
    options.max_new_tokens = 0;
    batch.submit(random_tokens(2, config.vocab_size, 2), options);
    batch.run_cycle();
    batch.run_cycle();
    batch.submit(random_tokens(3, config.vocab_size, 3), {.max_new_tokens = 2});
    io::save_generation(path, batch);
    CHECK(batch.result(0).tokens.size() >= 2);
  }
  /// The other generator is as it was made, and takes the file that was saved.
  void check_unchanged(const std::filesystem::path& good) {
    CHECK(other.waiting() == 0);
    CHECK(fails_with("expected the number of a request", [&] { other.state(0); }));
    io::load_generation(good, other);
    other.run();
    batch.run();
    for (index_t i = 0; i < 3; ++i) {
      CHECK(other.take(i).tokens == batch.take(i).tokens);
    }
  }
};

/// A file that can be changed and written with a right checksum.
struct forged_file {
  std::map<std::string, std::string> entries;
  std::map<std::string, std::pair<io::tensor_info, std::vector<std::byte>>> tensors;

  explicit forged_file(const std::filesystem::path& path) {
    const io::safetensors_file file(path);
    entries = file.metadata();
    for (const io::tensor_info& tensor : file.tensors()) {
      auto& [info, bytes] = tensors[tensor.name];
      info = tensor;
      bytes.resize(static_cast<std::size_t>(tensor.end - tensor.begin));
      file.read(tensor, 0, tensor.count(), bytes.data());
    }
  }
  template <class Element>
  void set(const std::string& name, const std::vector<Element>& values) {
    auto& [info, bytes] = tensors[name];
    info.name = name;
    info.type = io::element_of<Element>();
    info.shape = {static_cast<index_t>(values.size())};
    const auto as_bytes = std::as_bytes(std::span(values));
    bytes.assign(as_bytes.begin(), as_bytes.end());
  }
  void write(const std::filesystem::path& path) const {
    std::vector<io::tensor_source> sources;
    for (const auto& each : tensors) {
      const auto& [info, bytes] = each.second;
      const std::byte* from = bytes.data();
      const index_t size = io::element_size(info.type);
      sources.push_back({info.name,
                         info.type,
                         info.shape,
                         [from, size](index_t first, index_t count, std::byte* to) {
                           std::copy_n(from + first * size, count * size, to);
                         }});
    }
    io::write_safetensors(path, sources, entries);
  }
};

}  // namespace

TEST_CASE("generation that is cut at any cycle goes on to the bit, with any number of slots") {
  check_every_cut<config>();
  check_every_cut<flipped_spoken_config(head_kind::parallel, 3)>();
}

TEST_CASE("generation with trees and typical drafts that is cut goes on to the bit") {
  constexpr auto parallel = spoken_config(head_kind::parallel, 3);
  const testing::scratch_directory folder;
  const auto path = folder / "generation.safetensors";
  cpu_context context({.threads = 1});
  language_model<parallel, cpu> model(context, seed{1});
  prepare(model);
  std::vector<generate_options<float, cpu>> all(5);
  all[0].tree = draft_tree::of_widths({3, 2, 1});
  all[1].tree = draft_tree::by_confidence(9, 3);
  all[1].sampling = {.temperature = 1, .seed = seed{3}};
  all[2].lossy_acceptance = typical_acceptance{.delta = 0.05, .temperature = 20};
  all[3].tree = draft_tree::of_paths({{1}, {0, 2}});
  all[3].lossy_acceptance = typical_acceptance{.epsilon = 0.01, .delta = 0.1, .temperature = 30};
  for (const index_t cycles : {1, 3, 7}) {
    CAPTURE(cycles);
    batch_of<parallel> first(context, model, 3), second(context, model, 2);
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].max_new_tokens = 40;
      all[i].log_probabilities = true;
      first.submit(random_tokens(5, 19, i), all[i]);
    }
    for (index_t i = 0; i < cycles; ++i) {
      first.run_cycle();
    }
    io::save_generation(path, first);
    io::load_generation(path, second);
    const auto restored = second.snapshot(), saved = first.snapshot();
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(restored.requests[i].options.tree == all[i].tree);
      CHECK(restored.requests[i].options.lossy_acceptance == all[i].lossy_acceptance);
      CHECK(restored.requests[i].result.tree_drafts == saved.requests[i].result.tree_drafts);
    }
    first.run();
    second.run();
    for (index_t i = 0; i < 5; ++i) {
      CAPTURE(i);
      const auto expected = first.take(i);
      CHECK((expected.tree_cycles > 0) == all[static_cast<std::size_t>(i)].tree.exists());
      check_same(second.take(i), expected, true);
    }
  }
}

TEST_CASE("generation goes on to the bit with other drafts than it began with") {
  office o;
  prepare(o.model);
  const auto all = orders(2);
  for (const order& each : all) {
    o.batch.submit(each.prompt, each.options);
  }
  for (int i = 0; i < 5; ++i) {
    o.batch.run_cycle();
  }
  auto snapshot = o.batch.snapshot();
  for (auto& request : snapshot.requests) {
    auto& options = request.options;
    const bool was_constant = options.schedule == draft_schedule::constant;
    options.schedule = was_constant ? draft_schedule::adaptive : draft_schedule::constant;
    options.num_draft_tokens = request.number % 3;
  }
  o.other.restore(snapshot);
  o.batch.run();
  o.other.run();
  for (index_t i = 0; i < 6; ++i) {
    check_same(o.other.take(i), o.batch.result(i), false);
  }
}

TEST_CASE("generation with weights in 8 bits goes on to the bit, and with no other weights") {
  office o;
  prepare(o.model);
  const quantized_model quantized = quantize(o.context, o.model);
  batch_of<config> batch(o.context, quantized, 2), other(o.context, quantized, 3);
  for (const order& each : orders(2)) {
    batch.submit(each.prompt, each.options);
  }
  for (int i = 0; i < 5; ++i) {
    batch.run_cycle();
  }
  io::save_generation(o.path, batch);
  CHECK(fails_with("other parameters:\n  model.parameter.",
                   [&] { io::load_generation(o.path, o.other); }));
  io::load_generation(o.path, other);
  batch.run();
  other.run();
  for (index_t i = 0; i < 6; ++i) {
    check_same(other.take(i), batch.result(i), false);
  }
}

TEST_CASE("callbacks are given again, and are told of what is still to come") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  o.batch.submit(prompt, {.max_new_tokens = 12});
  for (int i = 0; i < 3; ++i) {
    o.batch.run_cycle();
  }
  const tokens_type before = o.batch.result(0).tokens;
  io::save_generation(o.path, o.batch);
  tokens_type streamed = before;
  std::vector<index_t> positions;
  io::load_generation(o.path, o.other, [&](index_t number, generate_options<float, cpu>& options) {
    CHECK(number == 0);
    options.max_new_tokens = 1;  // has no effect
    options.on_token = [&](const written_token& written) {
      positions.push_back(written.position);
      streamed.push_back(written.token);
      return true;
    };
  });
  CHECK(o.other.state(0) == request_state::waiting);
  o.batch.run();
  o.other.run();
  CHECK(o.other.result(0).tokens.size() == 12);
  CHECK(streamed == o.batch.result(0).tokens);
  CHECK(positions.front() == static_cast<index_t>(prompt.size() + before.size()));
}

TEST_CASE("a request that had a mask goes on with one, or not at all") {
  office o;
  const logit_mask falling = [](std::span<const token_t> text, std::span<float> bias) {
    bias[static_cast<std::size_t>(text.back())] -= 100;
  };
  generate_options<float, cpu> options{.max_new_tokens = 12, .best_tokens = 2};
  options.sampling = {.temperature = 1, .mask = falling, .seed = seed{4}};
  o.batch.submit(random_tokens(5, config.vocab_size, 1), options);
  for (int i = 0; i < 3; ++i) {
    o.batch.run_cycle();
  }
  io::save_generation(o.path, o.batch);
  CHECK(fails_with("request 0: expected a mask, which it had when it was saved",
                   [&] { io::load_generation(o.path, o.other); }));
  io::load_generation(o.path, o.other, [&](index_t, generate_options<float, cpu>& again) {
    again.sampling.mask = falling;
  });
  o.batch.run();
  o.other.run();
  CHECK(o.other.result(0).tokens == o.batch.result(0).tokens);
  CHECK(o.other.result(0).best_tokens == o.batch.result(0).best_tokens);
  CHECK(o.other.result(0).cycles == o.batch.result(0).cycles);
}

TEST_CASE("what has ended, was cancelled or has failed is restored as it is") {
  office o;
  const auto prompt = random_tokens(5, config.vocab_size, 1);
  generate_options<float, cpu> failing{.max_new_tokens = 5};
  failing.on_token = [](token_t) -> bool { throw std::runtime_error("en\xffough"); };
  o.batch.submit(prompt, {.max_new_tokens = 3});
  o.batch.submit(prompt, failing);
  o.batch.run();
  o.batch.submit(prompt, {.max_new_tokens = 30});
  o.batch.submit(prompt, {.max_new_tokens = 30});
  o.batch.submit(prompt, {.max_new_tokens = 30});
  o.batch.submit(prompt, {.max_new_tokens = 30});
  o.batch.run_cycle();
  o.batch.run_cycle();
  o.batch.cancel(2);  // still has its slot
  o.batch.cancel(5);
  o.batch.cancel(3);
  o.batch.run_cycle();
  o.batch.take(3);
  io::save_generation(o.path, o.batch);
  io::load_generation(o.path, o.other);
  CHECK(o.other.waiting() == 1);
  CHECK(o.other.state(0) == request_state::done);
  CHECK(o.other.take(0).tokens == o.batch.take(0).tokens);
  CHECK(fails_with("en\xffough", [&] { o.other.result(1); }));
  CHECK(o.other.take(2).end == end_reason::cancelled);
  CHECK(fails_with("expected the number of a request", [&] { o.other.state(3); }));
  CHECK(o.other.take(5).end == end_reason::cancelled);
  o.batch.cancel(4);
  CHECK(o.batch.snapshot().requests[2].progress == request_progress::ended);
  o.other.run();
  CHECK(o.other.take(4).tokens.size() == 30);
}

TEST_CASE("the same generation gives the same bytes") {
  office o;
  o.save();
  const std::string bytes = content(o.path);
  io::load_generation(o.path, o.other);
  io::save_generation(o.folder / "again", o.other);
  CHECK(content(o.folder / "again") == bytes);
}

TEST_CASE("a file with a wrong byte anywhere is refused and changes nothing") {
  office o;
  o.save();
  const std::string good = content(o.path);
  const auto bad = o.folder / "bad";
  put(bad, good);
  std::fstream file(bad, std::ios::binary | std::ios::in | std::ios::out);
  const auto set_byte = [&](std::size_t i, char byte) {
    file.seekp(static_cast<std::streamoff>(i)).put(byte).flush();
  };
  index_t taken = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    set_byte(i, static_cast<char>(good[i] ^ (1 << (i % 8))));
    taken += fails_with("bad", [&] { io::load_generation(bad, o.other); }) ? 0 : 1;
    set_byte(i, good[i]);
  }
  CHECK(taken == 0);
  o.check_unchanged(bad);
}

TEST_CASE("a file that is cut off anywhere or too long is refused and changes nothing") {
  office o;
  o.save();
  const auto bad = o.folder / "bad";
  put(bad, content(o.path) + '\0');
  CHECK(fails_with("bad", [&] { io::load_generation(bad, o.other); }));
  index_t taken = 0;
  for (std::uintmax_t size = std::filesystem::file_size(o.path); size-- > 0;) {
    std::filesystem::resize_file(bad, size);
    taken += fails_with("bad", [&] { io::load_generation(bad, o.other); }) ? 0 : 1;
  }
  CHECK(taken == 0);
  CHECK(fails_with("none", [&] { io::load_generation(o.folder / "none", o.other); }));
  o.check_unchanged(o.path);
}

TEST_CASE("a file with a right checksum and a wrong content is refused and changes nothing") {
  office o;
  o.save();
  const forged_file good(o.path);
  const auto bad = o.folder / "bad";
  const auto refused = [&](const std::string& part, const forged_file& file) {
    file.write(bad);
    CHECK(fails_with(part, [&] { io::load_generation(bad, o.other); }));
  };
  for (const auto& [key, value] : good.entries) {
    if (key == "checksum" || key.starts_with("request.1.") || key.starts_with("request.2.")) {
      continue;  // read as those of the first request are
    }
    forged_file file = good;
    file.entries.erase(key);
    refused(key, file);
    file.entries[key] = "?";
    refused("?", file);
  }
  for (const auto& [name, tensor] : good.tensors) {
    if (!name.starts_with("request.0.")) {
      continue;
    }
    forged_file file = good;
    file.tensors.erase(name);
    refused("there is no tensor '" + name, file);
    file = good;
    file.tensors.at(name).first.shape.push_back(1);
    refused("'" + name + "': expected one dimension", file);
  }
  const auto with_entry = [&](const char* key, const char* value) {
    forged_file file = good;
    file.entries[key] = value;
    return file;
  };
  const auto with_tensor = [&](const std::string& name, const auto& values) {
    forged_file file = good;
    file.set(name, values);
    return file;
  };
  refused("expected the format mtp generation 2, got mtp generation 1",
          with_entry("format", "mtp generation 1"));
  refused("unexpected entry \"more\"", with_entry("more", ""));
  using whole_numbers = std::vector<std::int64_t>;
  const auto with_tree = [&](const whole_numbers& parents, const whole_numbers& ranks) {
    forged_file file = good;
    file.set("request.0.tree_parents", parents);
    file.set("request.0.tree_ranks", ranks);
    return file;
  };
  refused("request.0.draft_tree::of_rows: expected row 1 to have a parent", with_tree({1}, {0}));
  refused("expected as many parents as ranks", with_tree({}, {0}));
  refused("expected a tree of at most 2 positions", with_tree({0, 1, 2}, {0, 0, 0}));
  refused("heads of this kind draft trees depth by depth",
          with_tensor("request.0.tree_by_confidence", whole_numbers{5, 2}));
  refused("tree_by_confidence: expected 2 numbers",
          with_tensor("request.0.tree_by_confidence", whole_numbers{4}));
  refused("typical: expected 3 numbers, got 2",
          with_tensor("request.0.typical", std::vector<double>{0.5, 1}));
  refused("typical_acceptance::epsilon in (0, 1], got 3",
          with_tensor("request.0.typical", std::vector<double>{3, 1, 1}));
  refused("expected no more trees than passes", with_entry("request.0.tree_cycles", "100"));
  refused("expected no more trees than passes", with_entry("request.0.tree_drafts", "1"));
  refused("unexpected tensor 'more'", with_tensor("more", tokens_type{1}));
  refused("there is no entry \"request.3.number\"", with_entry("generation.requests", "4"));
  refused("unexpected entry \"request.2.", with_entry("generation.requests", "2"));
  refused("expected rising numbers below the next one, 2", with_entry("generation.next", "2"));
  refused("expected rising numbers", with_entry("request.1.number", "0"));
  refused("expected a number of the next request", with_entry("generation.next", "-1"));
  refused("expected temperature", with_entry("request.0.temperature", "-1"));
  refused("expected top_p", with_entry("request.0.top_p", "nan"));
  refused("expected min_new_tokens", with_entry("request.2.min_new_tokens", "3"));
  refused("expected num_draft_tokens", with_entry("request.2.num_draft_tokens", "3"));
  refused("cannot be \"9e\"", with_entry("request.0.max_new_tokens", "9e"));
  refused("cannot be \"-1\"", with_entry("request.0.sequence", "-1"));
  refused("request 0: expected at most 0 generated tokens",
          with_entry("request.0.max_new_tokens", "1"));
  refused("expected 0 log-probabilities", with_entry("request.0.log_probabilities", "false"));
  refused("expected no more accepted drafts", with_entry("request.0.forward_passes", "-1"));
  refused("expected at most a pass for each token", with_entry("request.0.forward_passes", "99"));
  refused("the prompt is empty", with_tensor("request.0.prompt", tokens_type{}));
  refused("generated token 19 at position 0", with_tensor("request.0.tokens", tokens_type{19}));
  refused("stop token -1", with_tensor("request.0.stop_tokens", tokens_type{-1}));
  refused("bias: expected 1 numbers, got 2",
          with_tensor("request.0.bias", std::vector<float>{1, 2}));
  refused("'request.0.bias': expected one dimension of F32, got [1] of F64",
          with_tensor("request.0.bias", std::vector<double>{1}));
  refused("in logit_bias", with_tensor("request.0.bias_tokens", tokens_type{77}));
  refused("stop: 3 tokens too many",
          with_tensor("request.0.stop_lengths", std::vector<std::int64_t>{}));
  refused("stop_lengths: expected lengths of 3 tokens in all, got 4",
          with_tensor("request.0.stop_lengths", std::vector<std::int64_t>{4}));
  refused("stop_lengths: expected lengths of 3 tokens in all, got -1",
          with_tensor("request.0.stop_lengths", std::vector<std::int64_t>{-1, 4}));
  refused("drafted: expected 2 numbers, got 1",
          with_tensor("request.0.drafted", std::vector<std::int64_t>{1}));
  o.check_unchanged(o.path);
}

TEST_CASE("generation of another model is refused, and what differs is named") {
  office o;
  o.save();
  language_model<same_but_deeper, cpu> deeper(o.context, seed{3});
  batch_of<same_but_deeper> of_deeper(o.context, deeper, 1);
  CHECK(fails_with("another configuration:\n  config.depth: expected 3, got 2",
                   [&] { io::load_generation(o.path, of_deeper); }));
  language_model<config, cpu, bf16> rounded(o.context, seed{3});
  batch_generator<config, cpu, bf16> of_rounded(o.context, rounded, 1);
  CHECK(fails_with("model.elements: expected BF16, got F32",
                   [&] { io::load_generation(o.path, of_rounded); }));
  float& element = o.model.values().vector(o.model.layout.trunk.norm)(3);
  const float before = element;
  element += 1e-6f;
  const auto changed = fails_with("other parameters:\n  model.parameter.",
                                  [&] { io::load_generation(o.path, o.other); });
  CHECK(changed);
  CHECK(changed.message.find("norm") != std::string::npos);
  element = before;
  o.check_unchanged(o.path);
}

TEST_CASE("generation is saved between cycles and restored into a generator that is new") {
  office o;
  o.save();
  const std::string good = content(o.path);
  auto options = options_of<float>(decode_mode::plain, 2);
  index_t calls = 0;
  options.on_token = [&](token_t) {
    ++calls;
    CHECK(fails_with("batch_generator::snapshot: called from one of the generator's own callbacks",
                     [&] { io::save_generation(o.path, o.batch); }));
    return true;
  };
  o.batch.submit(random_tokens(3, config.vocab_size, 3), options);
  CHECK(fails_with("requests have been submitted already",
                   [&] { io::load_generation(o.path, o.batch); }));
  CHECK_THROWS_WITH_AS(io::load_generation(o.path,
                                           o.other,
                                           [](index_t, generate_options<float, cpu>&) {
                                             throw std::runtime_error("not so");
                                           }),
                       "not so",
                       std::runtime_error);
  o.batch.run();
  CHECK(calls == 2);
  CHECK(content(o.path) == good);
  o.check_unchanged(o.path);
}

}  // namespace mtp::test::io_generation_cases
