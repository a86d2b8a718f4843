// A program's configuration against a checkpoint's: every field that differs is listed.
#include "mtp/io/pretrained/check_config.hpp"

#include <doctest/doctest.h>
#include <string>

#include "io/scratch.hpp"

namespace mtp::test::io_pretrained_check_config_cases {

namespace {

std::string refused(const std::filesystem::path& path, const mtp::model_config& config) {
  try {
    static_cast<void>(mtp::io::check_config(path, config));
  } catch (const mtp::error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("every field that differs is listed, a shorter sequence and another head are none") {
  const mtp::testing::scratch_directory scratch;
  mtp::testing::put(scratch / "config.json",
                    R"({"model_type": "llama", "vocab_size": 10, "hidden_size": 8,
                        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "max_position_embeddings": 64})");
  const mtp::model_config same = mtp::io::read_config(scratch.path()).config;
  CHECK(refused(scratch.path(), same) == "accepted");

  auto other = same;
  other.max_position_embeddings = 16;
  other.prediction = {.kind = mtp::head_kind::sequential, .depth = 2};
  CHECK(refused(scratch.path(), other) == "accepted");

  other.vocab_size = 11;
  other.attention.qk_norm = true;
  other.attention.rope_scaling = {.kind = mtp::rope_scaling_kind::linear, .factor = 2};
  other.max_position_embeddings = 65;
  const std::string message = refused(scratch.path(), other);
  CAPTURE(message);
  for (const char* line : {"vocab_size: the program has 11, the file 10",
                           "qk_norm: the program has true, the file false",
                           "rope_type: the program has linear, the file none",
                           "rope_factor: the program has 2, the file 1",
                           "max_position_embeddings: the program has 65, the file 64"}) {
    CHECK(message.find(line) != std::string::npos);
  }
  CHECK(message.find("depth") == std::string::npos);
}

}  // namespace mtp::test::io_pretrained_check_config_cases
