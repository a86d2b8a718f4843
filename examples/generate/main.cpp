// Continues a text with the checkpoint that it was compiled for, with drafts where the checkpoint
// has a head. Text goes to standard output as it is confirmed, figures to standard error.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <limits>
#include <mtp_models/checkpoint.hpp>
#include <span>
#include <string>
#include <vector>

#include "chat_prompt.hpp"
#include "draft_tokens.hpp"
#include "end_tokens.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/decode/generation_report.hpp"
#include "mtp/io/tokenizer.hpp"
#include "options.hpp"
#include "repeated.hpp"
#include "stored_model.hpp"

namespace {

using namespace example;

constexpr mtp::model_config config = repeated(mtp_models::checkpoint, GENERATE_DEPTH);
using scalar = GENERATE_SCALAR;
using generator_type = mtp::generator<config, mtp::cpu, scalar>;
using options_type = generator_type::options_type;
using tokens_type = std::vector<mtp::token_t>;

/// Numbers below vocab_size that are no token of the tokenizer must not be written.
std::vector<mtp::token_bias> without_text(const mtp::io::tokenizer& tokens) {
  std::vector<mtp::token_bias> forbidden;
  for (mtp::token_t token = 0; token < config.vocab_size; ++token) {
    const bool exists = token < tokens.vocab_size() &&
                        !tokens.model().tokens[static_cast<std::size_t>(token)].empty();
    if (!exists) forbidden.push_back({token, -std::numeric_limits<float>::infinity()});
  }
  return forbidden;
}

options_type options_of(const generate_request& request, const mtp::io::tokenizer& tokens) {
  options_type how;
  how.max_new_tokens = request.max_tokens;
  how.stop_tokens = end_tokens(request.folder);
  how.num_draft_tokens = request.drafts;
  how.schedule = request.drafts < 0 ? mtp::draft_schedule::adaptive : mtp::draft_schedule::constant;
  how.sampling = {.temperature = request.temperature,
                  .top_k = request.top_k,
                  .top_p = request.top_p,
                  .min_p = request.min_p,
                  .repetition_penalty = request.repetition_penalty,
                  .logit_bias = without_text(tokens),
                  .seed = mtp::seed{request.seed}};
  return how;
}

/// Writes the text to standard output unless `shown` is false. Returns the generated tokens.
tokens_type write(generator_type& generator,
                  const mtp::io::tokenizer& tokens,
                  const tokens_type& prompt,
                  const generate_request& request,
                  options_type how,
                  bool shown,
                  double& rate) {
  mtp::io::token_text_stream stream(tokens, request.stop);
  const auto put = [&](std::span<const mtp::text_piece> pieces) {
    for (const mtp::text_piece& piece : pieces) {
      if (shown) std::fwrite(piece.text.data(), 1, piece.text.size(), stdout);
    }
    std::fflush(stdout);
  };
  how.on_token = [&](const mtp::written_token& token) {
    put(stream.push(token));
    return !stream.stop();
  };
  const auto& made = generator.generate(prompt, how);
  put(stream.finish());
  if (shown) std::puts("");
  std::fprintf(stderr, "%s\n", mtp::report(made).c_str());
  rate = static_cast<double>(made.tokens.size()) / made.decode_seconds;
  return made.tokens;
}

/// Returns the exit status.
int run(const generate_request& request) {
  const mtp::io::tokenizer tokens = mtp::io::read_tokenizer(request.folder / "tokenizer.json");
  const tokens_type prompt =
      request.chat ? chat_prompt(request, tokens)
                   : tokens.encode(request.prompt, {.parse_special = request.parse_special});
  mtp::context<mtp::cpu> context({.threads = request.threads});
  const stored_model<config, scalar> model(
      context, request, mtp_models::checkpoint, mtp_models::checkpoint_family);
  generator_type generator(context, model.get());
  if constexpr (config.prediction.drafts()) {
    generator.set_draft_vocabulary(read_draft_tokens(request.folder));
  }
  options_type how = options_of(request, tokens);
  how.mode = request.plain ? mtp::decode_mode::plain : mtp::decode_mode::speculative;
  double rate = 0, plain_rate = 0;
  const tokens_type text = write(generator, tokens, prompt, request, how, true, rate);
  if (!request.compare) return 0;
  how.mode = mtp::decode_mode::plain;
  const tokens_type plain = write(generator, tokens, prompt, request, how, false, plain_rate);
  std::fprintf(stderr,
               "speed-up %.2f, %s\n",
               rate / plain_rate,
               text == plain ? "identical" : "the texts differ");
  return text == plain ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues a text with the checkpoint that it was compiled for", "generate");
  try {
    return run(parse_options(app, argc, argv));
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "generate: %s\n", problem.what());
    return 1;
  }
}
