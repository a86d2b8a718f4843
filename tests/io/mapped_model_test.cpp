// Models whose parameters stay in a file: the same bits, what is refused, and what is read of them.
#include "mtp/io/mapped_model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "model/expert_configs.hpp"
#include "support/decoding.hpp"

namespace mtp::test::io_mapped_model_cases {

namespace {

using io::map_model;
using mtp::testing::content;
using mtp::testing::put;
using mtp::testing::scratch_directory;

constexpr model_config experts = deepseek_experts(head_kind::sequential, 2);
/// Its embedding is also an output matrix in 8 bits.
constexpr model_config tied = flipped_spoken_config(head_kind::parallel, 2);

/// What a model writes, plain and with drafts.
template <model_config Config, class S>
std::vector<transcript<accumulate_t<S>, Config.prediction.depth>> texts_of(
    const inference_model<Config, cpu, S>& model) {
  cpu_context context({.threads = 2});
  generator<Config, cpu, S> generator(context, model);
  std::vector<transcript<accumulate_t<S>, Config.prediction.depth>> made;
  for (const auto mode : {decode_mode::plain, decode_mode::speculative}) {
    made.push_back(
        record(generator, random_tokens(5, Config.vocab_size, 2), options_of<S>(mode, 30)));
  }
  return made;
}

/// The same parameters in the same places, and the same text.
template <model_config Config, class S>
void check_same(const inference_model<Config, cpu, S>& mapped,
                const inference_model<Config, cpu, S>& model) {
  model.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto expected = model.values().storage(p), actual = mapped.values().storage(p);
    REQUIRE((actual.data() == nullptr) == (expected.data() == nullptr));
    if (expected.data() != nullptr) CHECK(same_bits(actual, expected));
  });
  const auto expected = texts_of<Config, S>(model), actual = texts_of<Config, S>(mapped);
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same_text(actual[i], expected[i]));
}

template <model_config Config, class S>
void check_round_trip() {
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  if constexpr (std::is_same_v<S, float>) {  // some drafts are accepted
    make_perfect(model);
    add_noise(model, 0.2);
  }
  const scratch_directory folder;
  io::save_mapped(folder / "elements", model);
  check_same<Config, S>(map_model<Config, cpu, S>(folder / "elements", {.verify = true}), model);

  const auto bytes = quantize(context, model);
  io::save_mapped(folder / "bytes", bytes);
  const auto mapped = map_model<Config, cpu, S>(folder / "bytes", {.verify = true});
  check_same<Config, S>(mapped, bytes);
  io::save_mapped(folder / "again", mapped);
  CHECK(content(folder / "again") == content(folder / "bytes"));
}

/// A file of the model, and its text.
struct saved_file {
  scratch_directory folder;
  std::filesystem::path path = folder / "model.mapped";

  saved_file() {
    cpu_context context({.threads = 1});
    io::save_mapped(path, language_model<experts, cpu>(context, seed{3}));
  }
  /// With another text of the same length in place of one.
  void replace(const std::string& from, const std::string& to) const {
    std::string bytes = content(path);
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    REQUIRE(from.size() == to.size());
    put(path, bytes.replace(at, from.size(), to));
  }
};

template <model_config Config = experts, class S = float>
std::string refusal(const std::filesystem::path& path, io::map_options options = {}) {
  try {
    static_cast<void>(map_model<Config, cpu, S>(path, options));
  } catch (const error& problem) {
    return problem.what();
  }
  return "accepted";
}

/// KiB of the mapping at an address that the process has read: "Rss" of /proc/self/smaps.
long resident_kib(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool there = false;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    if (words >> std::hex >> begin >> dash >> end && dash == '-') {
      const auto place = reinterpret_cast<std::uintptr_t>(address);
      there = begin <= place && place < end;
    } else if (there && line.starts_with("Rss:")) {
      return std::stol(line.substr(4));
    }
  }
  return -1;
}

}  // namespace

TEST_CASE("a model in a file has the parameters, texts and logits of the one that was saved") {
  check_round_trip<experts, float>();
  check_round_trip<experts, bf16>();
  check_round_trip<tied, float>();
}

TEST_CASE("a file that is not of the model is refused by what differs, and a damaged one") {
  const saved_file file;
  CHECK(refusal(file.path) == "accepted");
  const auto says = [](const std::string& message, const std::string& part) {
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  };
  constexpr model_config longer = deepseek_experts(head_kind::sequential, 2, 200);
  CHECK(refusal<longer>(file.path) == "accepted");
  constexpr model_config deeper = deepseek_experts(head_kind::sequential, 1);
  says(refusal<deeper>(file.path), "config.depth: expected 1, got 2");
  says(refusal<deeper>(file.path), "unexpected: mtp.1.");
  says(refusal<experts, bf16>(file.path), "lm_head.weight: expected BF16 [");

  SUBCASE("another layout of weights") {
    file.replace("\"mapped.layout\":\"align", "\"mapped.layout\":\"elign");
    says(refusal(file.path), "mapped.layout differs: expected align");
  }
  SUBCASE("another version") {
    file.replace("\"mapped.version\":\"1\"", "\"mapped.version\":\"2\"");
    says(refusal(file.path), "mapped.version differs: expected 1, got 2");
  }
  SUBCASE("a missing parameter") {
    file.replace("\"lm_head.weight\"", "\"lm_heed.weight\"");
    says(refusal(file.path), "missing: lm_head.weight");
    says(refusal(file.path), "unexpected: lm_heed.weight");
  }
  SUBCASE("a shorter file") {
    std::filesystem::resize_file(file.path, std::filesystem::file_size(file.path) - 1);
    says(refusal(file.path), "after the end of the file");
  }
  SUBCASE("a changed element") {
    std::string bytes = content(file.path);
    bytes[bytes.size() / 2] ^= 1;
    put(file.path, bytes);
    CHECK(refusal(file.path) == "accepted");
    says(refusal(file.path, {.verify = true}), "the checksum is wrong");
  }
  SUBCASE("data that are not aligned") {
    // The header is padded with spaces; one less moves the data.
    std::string bytes = content(file.path);
    const std::size_t length = static_cast<unsigned char>(bytes[0]) +
                               256 * static_cast<std::size_t>(static_cast<unsigned char>(bytes[1]));
    REQUIRE(bytes[8 + length - 1] == ' ');
    bytes.erase(8 + length - 1, 1);
    bytes[0] = static_cast<char>((length - 1) % 256);
    bytes[1] = static_cast<char>((length - 1) / 256);
    put(file.path, bytes);
    says(refusal(file.path), "the data are not at a multiple of 64 bytes");
  }
  SUBCASE("a checkpoint") {
    io::write_safetensors(file.path, {}, {});
    says(refusal(file.path), "has no entry \"mapped.version\"");
  }
}

TEST_CASE("what is written to a mapped model does not reach its file") {
  const saved_file file;
  const std::string before = content(file.path);
  auto model = map_model<experts, cpu>(file.path);
  const parameter& norm = model.layout.trunk.norm;
  const float was = model.values().vector(norm)(0);
  model.elements(norm)(0) = was + 1;
  CHECK(model.values().vector(norm)(0) == was + 1);
  CHECK(content(file.path) == before);
  const auto moved = std::move(model);
  CHECK(moved.values().vector(norm)(0) == was + 1);
}

TEST_CASE("a file that is replaced as a whole leaves a mapped model as it is") {
  const saved_file file;
  const auto model = map_model<experts, cpu>(file.path);
  cpu_context context({.threads = 1});
  const language_model<experts, cpu> other(context, seed{4});
  io::save_mapped(file.path, other);
  check_same<experts, float>(model, language_model<experts, cpu>(context, seed{3}));
  check_same<experts, float>(map_model<experts, cpu>(file.path), other);
}

TEST_CASE("experts that no token chooses are not read") {
  constexpr model_config wide = [] {
    model_config config = qwen_experts(head_kind::none, 0);
    config.hidden_size = 64;
    config.feed_forward.n_routed_experts = 64;
    config.feed_forward.num_experts_per_tok = 1;
    config.feed_forward.moe_intermediate_size = 128;
    config.feed_forward.e_score_correction_bias = true;
    return resolved(config);
  }();
  const scratch_directory folder;
  {
    cpu_context context({.threads = 1});
    language_model<wide, cpu> model(context, seed{1});
    index_t routers = 0;
    model.layout.visit([&](const std::string&, const parameter& p) {
      if (p.role == parameter_role::routing_bias) {
        model.values().vector(p)(routers % 2 == 0 ? 11 : 40) = 100;
        ++routers;
      }
    });
    REQUIRE(routers == 2);
    io::save_mapped(folder / "model", model);
  }
  const auto kib = static_cast<long>(std::filesystem::file_size(folder / "model") / 1024);
  REQUIRE(kib > 6000);
  const auto model = map_model<wide, cpu>(folder / "model");
  cpu_context context({.threads = 1});
  generator<wide, cpu> generator(context, model);
  generator.generate(random_tokens(5, wide.vocab_size, 2),
                     options_of<float>(decode_mode::plain, 30));
  const long read = resident_kib(model.values().data());
  CAPTURE(kib);
  CAPTURE(read);
  CHECK(read > 0);
  CHECK(read < kib / 4);  // two of 128 experts, all else, and pages around what was touched
}

TEST_CASE("places that do not fit the layout are refused") {
  using model_type = quantized_model<experts, cpu>;
  std::vector<parameter_place> whole;
  model_type::layout.visit([&](const std::string&, const parameter& p) {
    whole.push_back({.offset = p.offset, .elements = p.offset});
  });
  const auto rejects = [&](const std::function<void(std::vector<parameter_place>&)>& change,
                           const std::string& part) {
    auto places = whole;
    change(places);
    try {
      static_cast<void>(model_type(
          buffer<float, cpu>(model_type::layout.storage), buffer<std::byte, cpu>(64), places));
    } catch (const error& problem) {
      CAPTURE(problem.what());
      CHECK(std::string(problem.what()).find(part) != std::string::npos);
      return;
    }
    CHECK(part.empty());
  };
  rejects([](auto&) {}, "");
  rejects([](auto& places) { places.pop_back(); }, "there is no place for it");
  rejects([](auto& places) { places.push_back(places.back()); }, "places, got");
  rejects([](auto& places) { std::swap(places[3], places[4]); }, "in the order of the layout");
  rejects([](auto& places) { places[0].elements = -1; }, "expected a place among the elements");
  rejects([](auto& places) { places.back().elements = model_type::layout.storage; },
          "elements do not end within the memory");
  rejects(
      [](auto& places) {
        for (parameter_place& at : places) at.quantized = 0;
      },
      "bytes do not end within the memory");
}

}  // namespace mtp::test::io_mapped_model_cases
