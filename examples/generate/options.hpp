// What the command line of the program says.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace example {

struct generate_request {
  std::filesystem::path folder;
  std::string prompt;
  long max_tokens = 200;
  double temperature = 0;
  double top_p = 1;
  long top_k = 0;
  double min_p = 0;
  double repetition_penalty = 1;
  std::uint64_t seed = 1;
  std::vector<std::string> stop;
  long drafts = -1;
  bool plain = false;
  bool compare = false;
  bool parse_special = false;
  bool chat = false;
  std::string system;
  std::string values = "{}";
  bool int8 = false;
  bool fp8 = false;
  std::filesystem::path mapped;
  int threads = 0;
};

/// Throws CLI::ParseError, which CLI::App::exit shows.
inline generate_request parse_options(CLI::App& app, int argc, char** argv) {
  generate_request request;
  app.add_option(
         "folder", request.folder, "The checkpoint: config.json, safetensors, tokenizer.json")
      ->required();
  app.add_option("prompt", request.prompt, "The text to continue")->required();
  app.add_option("--max-tokens", request.max_tokens, "Tokens at most")->capture_default_str();
  app.add_option("--temperature", request.temperature, "0: always the most likely token")
      ->capture_default_str();
  app.add_option("--top-p", request.top_p, "Draw among the fewest tokens of this probability")
      ->capture_default_str();
  app.add_option("--top-k", request.top_k, "Draw among so many; 0: all")->capture_default_str();
  app.add_option("--min-p", request.min_p, "Least share of the likeliest token's probability")
      ->capture_default_str();
  app.add_option("--repetition-penalty", request.repetition_penalty, "Above 0; 1: none")
      ->capture_default_str();
  app.add_option("--seed", request.seed, "The same seed gives the same text")
      ->capture_default_str();
  app.add_option("--stop", request.stop, "A text that ends generation; may be repeated");
  app.add_option("--drafts", request.drafts, "Drafts of a pass; -1: as many as pay")
      ->capture_default_str();
  app.add_flag("--plain", request.plain, "Without drafts: the same text");
  app.add_flag("--compare", request.compare, "Writes with drafts and without, and compares");
  app.add_flag("--special", request.parse_special, "Special tokens of the prompt are tokens");
  app.add_flag("--chat", request.chat, "The prompt is a message; the answer is written");
  app.add_option("--system", request.system, "With --chat: the message in front of it");
  app.add_option("--values", request.values, "With --chat: an object of values for the template")
      ->capture_default_str();
  auto* const int8 =
      app.add_flag("--int8", request.int8, "Weights in 8 bits, made when the checkpoint is read");
  app.add_flag("--fp8", request.fp8, "Weights in FP8 stay as the checkpoint has them")
      ->excludes(int8);
  app.add_option("--mapped",
                 request.mapped,
                 "Parameters stay in this file, which is made of the checkpoint the first time; "
                 "weights in FP8 stay so, and with --int8 they become 8 bits");
  app.add_option("--threads", request.threads, "0: all that the process may use")
      ->capture_default_str();
  app.parse(argc, argv);
  return request;
}

}  // namespace example
