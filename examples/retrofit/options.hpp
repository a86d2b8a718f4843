// What the command line of the program says.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace example {

struct retrofit_request {
  std::filesystem::path folder, out, states;
  std::vector<std::filesystem::path> texts;
  long tokens = 400000;
  long length = 256;
  long batch = 4;
  long held_out = 32;
  long vocabulary = 8192;
  double minutes = 30;
  long steps = 0;
  double rate = 1.5e-3;
  double weight_decay = 0.01;
  double beta = 0.8;
  std::string loss = "distillation";
  double kl = -1;
  long every = 50;
  long patience = 6;
  long compare = 8;
  long compare_tokens = 128;
  double temperature = 0.8;
  std::uint64_t seed = 1;
  int threads = 0;
};

/// Throws CLI::ParseError, which CLI::App::exit shows.
inline retrofit_request parse_options(CLI::App& app, int argc, char** argv) {
  retrofit_request request;
  const auto number = [&](const char* name, auto& value, const char* text, double least) {
    app.add_option(name, value, text)->capture_default_str()->check(CLI::Range(least, 1e15));
  };
  app.add_option("folder", request.folder, "The checkpoint, which has no head")->required();
  app.add_option("texts", request.texts, "Files and folders of text to learn from")->required();
  app.add_option("--out", request.out, "Where checkpoint and head are written")->required();
  app.add_option("--states", request.states, "File of hidden states; default: OUT.states");
  number("--tokens", request.tokens, "Tokens of the text, at most", 1);
  number("--length", request.length, "Tokens of a sequence", 8);
  number("--batch", request.batch, "Sequences of a step", 1);
  number("--held-out", request.held_out, "Sequences that are not trained on", 1);
  number("--vocabulary", request.vocabulary, "Tokens that are drafted; 0: all", 0);
  number("--minutes", request.minutes, "Of training, at most; 0: no limit", 0);
  number("--steps", request.steps, "Of training, at most; 0: no limit", 0);
  number("--rate", request.rate, "Largest learning rate", 0);
  number("--weight-decay", request.weight_decay, "Of AdamW", 0);
  number("--beta", request.beta, "Depth k has the weight beta^(k - 1)", 0);
  app.add_option("--loss", request.loss, "What is minimized")
      ->capture_default_str()
      ->check(CLI::IsMember({"distillation", "cross-entropy"}));
  app.add_option("--kl", request.kl, "Share of KL in distillation; -1: less with more overlap")
      ->capture_default_str()
      ->check(CLI::Range(-1.0, 1.0));
  number("--every", request.every, "Steps from one validation to the next", 1);
  number("--patience", request.patience, "Validations without progress that end training", 1);
  number("--compare", request.compare, "Held-out prompts that texts are compared for", 0);
  number("--compare-tokens", request.compare_tokens, "Tokens of each of these texts", 1);
  number("--temperature", request.temperature, "Of the drawn ones of these texts", 0);
  app.add_option("--seed", request.seed, "Of the order of texts and sequences")
      ->capture_default_str();
  app.add_option("--threads", request.threads, "0: all that the process may use")
      ->capture_default_str();
  app.parse(argc, argv);
  if (request.states.empty()) request.states = request.out.string() + ".states";
  return request;
}

}  // namespace example
