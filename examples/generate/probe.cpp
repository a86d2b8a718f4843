// What the files of a checkpoint do not say of its head, measured: how many drafts the model
// accepts under each reading. One reading is right, and the others write the same text with fewer
// drafts accepted.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <mtp_models/checkpoint.hpp>
#include <string>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/io/pretrained/check_config.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/tokenizer.hpp"
#include "repeated.hpp"

namespace {

using scalar = GENERATE_SCALAR;
using tokens_type = std::vector<mtp::token_t>;

// A checkpoint with one module drafts a second token with it again, so that what it hands on
// counts.
constexpr mtp::model_config plain =
    example::repeated(mtp_models::checkpoint, GENERATE_DEPTH > 2 ? GENERATE_DEPTH : 2);
constexpr bool has_modules = plain.prediction.kind == mtp::head_kind::sequential ||
                             plain.prediction.kind == mtp::head_kind::recurrent;

struct request_type {
  std::filesystem::path folder;
  std::string prompt;
  long max_tokens = 200;
  int threads = 0;
};

/// What one reading gave.
struct outcome {
  std::string tap, recycle, order;
  bool is_default = false;
  tokens_type text;
  std::vector<double> acceptance;  // of each depth
  double tokens_per_pass = 0;
};

std::string name_of(mtp::norm_tap tap) {
  return std::string(mtp::value_names<mtp::norm_tap>::names[static_cast<std::size_t>(tap)]);
}
std::string name_of(mtp::concat_order order) {
  return std::string(mtp::value_names<mtp::concat_order>::names[static_cast<std::size_t>(order)]);
}

constexpr mtp::model_config reading(mtp::norm_tap tap,
                                    mtp::norm_tap recycle,
                                    mtp::chain_input chain) {
  mtp::model_config config = plain;
  config.prediction.chain = chain;
  config.prediction.hidden_tap = tap;
  config.prediction.recycle_tap = recycle;
  return config;
}

/// The text and the acceptance of one reading; `order`: of the halves of the projection in the
/// files.
template <mtp::norm_tap Tap, mtp::norm_tap Recycle, mtp::chain_input Chain>
outcome measure(const request_type& request, const tokens_type& prompt, mtp::concat_order order) {
  constexpr mtp::model_config config = reading(Tap, Recycle, Chain);
  mtp::context<mtp::cpu> context({.threads = request.threads});
  mtp::language_model<config, mtp::cpu, scalar> model(context, mtp::seed{1});
  mtp::io::family_names family = mtp_models::checkpoint_family;
  const bool as_family_says = order == family.concat;
  family.concat = order;
  const auto report =
      mtp::io::load_pretrained(request.folder, model, family, mtp::io::extra_tensors::left_out);
  mtp::check(report.has_head(), "the files have no head");
  mtp::generator<config, mtp::cpu, scalar> generator(context, model);
  mtp::generate_options<scalar, mtp::cpu> how;
  how.max_new_tokens = request.max_tokens;
  how.schedule =
      mtp::draft_schedule::constant;  // all that the head drafts, whether they pay or not
  const auto& made = generator.generate(prompt, how);
  outcome found{name_of(Tap),
                Chain == mtp::chain_input::target_hidden ? "the trunk's" : name_of(Recycle),
                has_modules ? name_of(order) : "-",
                config == plain && as_family_says,
                made.tokens,
                {},
                made.tokens_per_forward()};
  for (std::size_t k = 0; k < made.drafted.size(); ++k)
    found.acceptance.push_back(made.acceptance(k));
  return found;
}

int run(const request_type& request) {
  mtp::io::check_config(request.folder, mtp_models::checkpoint);
  const auto tokens = mtp::io::read_tokenizer(request.folder / "tokenizer.json");
  const tokens_type prompt = tokens.encode(request.prompt);
  std::vector<outcome> all;
  if constexpr (plain.prediction.drafts() && plain.prediction.kind != mtp::head_kind::parallel) {
    using enum mtp::norm_tap;
    using enum mtp::chain_input;
    const auto add = [&](mtp::concat_order order) {
      all.push_back(measure<post_norm, post_norm, previous_output>(request, prompt, order));
      all.push_back(measure<pre_norm, pre_norm, previous_output>(request, prompt, order));
      if constexpr (has_modules) {
        all.push_back(measure<post_norm, pre_norm, previous_output>(request, prompt, order));
        all.push_back(measure<pre_norm, post_norm, previous_output>(request, prompt, order));
        all.push_back(measure<post_norm, post_norm, target_hidden>(request, prompt, order));
        all.push_back(measure<pre_norm, post_norm, target_hidden>(request, prompt, order));
      }
    };
    add(mtp::concat_order::embedding_first);
    if constexpr (has_modules) add(mtp::concat_order::hidden_first);
  } else {
    mtp::fail("the checkpoint has no head, or one whose files leave nothing open");
  }

  const auto best =
      std::max_element(all.begin(), all.end(), [](const outcome& a, const outcome& b) {
        return a.tokens_per_pass < b.tokens_per_pass;
      });
  std::printf(
      "| a head reads | the next one | halves in files | accepted at depth 1, 2, .. | tokens per "
      "pass | "
      "|\n");
  std::printf("|---|---|---|---|---|---|\n");
  for (const outcome& each : all) {
    mtp::check(each.text == all.front().text, "readings write different texts");
    std::string accepted;
    for (const double share : each.acceptance) {
      std::array<char, 16> digits{};
      std::snprintf(digits.data(), digits.size(), "%s%.2f", accepted.empty() ? "" : ", ", share);
      accepted += digits.data();
    }
    std::printf("| %s | %s | %s | %s | %.2f | %s%s |\n",
                each.tap.c_str(),
                each.recycle.c_str(),
                each.order.c_str(),
                accepted.c_str(),
                each.tokens_per_pass,
                each.is_default ? "the family's default" : "",
                &each == &*best ? (each.is_default ? ", best" : "best") : "");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures how many drafts are accepted under each reading of a checkpoint's head",
               "probe");
  request_type request;
  app.add_option("folder", request.folder, "The checkpoint")->required();
  app.add_option("prompt", request.prompt, "The text to continue")->required();
  app.add_option("--max-tokens", request.max_tokens, "Tokens at most")->capture_default_str();
  app.add_option("--threads", request.threads, "0: all that the process may use")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(request);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "probe: %s\n", problem.what());
    return 1;
  }
}
