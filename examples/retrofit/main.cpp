// Gives a released checkpoint, which predicts the next token only, a head that drafts: trains it on
// hidden states of the trunk, which stays as it is, and writes both.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mtp_models/checkpoint.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comparison.hpp"
#include "generate/end_tokens.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/check_config.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/tokenizer.hpp"
#include "options.hpp"
#include "saving.hpp"
#include "train_and_generate/corpus.hpp"
#include "training.hpp"
#include "windows.hpp"

namespace {

using namespace example;

static_assert(mtp_models::checkpoint.prediction.kind == mtp::head_kind::none,
              "retrofit: the checkpoint has a head already");
constexpr mtp::model_config config =
    with_head(mtp_models::checkpoint, mtp::head_kind::RETROFIT_HEAD, RETROFIT_DEPTH);
using scalar = RETROFIT_SCALAR;
using model_type = mtp::language_model<config, mtp::cpu, scalar>;
using small_type = mtp::language_model<mtp::heads_config(config), mtp::cpu, float>;
using training_type = head_training<mtp::heads_config(config)>;

/// Parts of a document of about `bytes`, which end at the ends of lines where there are any.
void add_pieces(std::vector<std::string>& pieces, std::string_view document, std::size_t bytes) {
  while (!document.empty()) {
    const std::size_t end = document.find('\n', (std::min)(bytes, document.size()) - 1);
    const bool far = end == std::string_view::npos || end > 2 * bytes;
    const std::size_t size = far ? (std::min)(2 * bytes, document.size()) : end + 1;
    pieces.emplace_back(document.substr(0, size));
    document.remove_prefix(size);
  }
}

/// Pieces of the texts in a random order, tokenized, with an end token behind each; at most
/// `request.tokens`. Pieces, because one long document could be all of a short run.
std::vector<mtp::token_t> read_texts(const retrofit_request& request,
                                     const mtp::io::tokenizer& tokenizer) {
  constexpr std::size_t piece_bytes = 8192;
  std::vector<std::string> pieces;
  for (const auto& path : request.texts) {
    const corpus read = load_corpus(path);
    const std::string_view all(reinterpret_cast<const char*>(read.bytes.data()), read.bytes.size());
    for (std::size_t i = 0; i < read.document_starts.size(); ++i) {
      const auto begin = static_cast<std::size_t>(read.document_starts[i]);
      const auto end = i + 1 < read.document_starts.size()
                           ? static_cast<std::size_t>(read.document_starts[i + 1])
                           : all.size();
      add_pieces(pieces, all.substr(begin, end - begin), piece_bytes);
    }
  }
  const auto ends = end_tokens(request.folder);
  std::vector<mtp::token_t> tokens;
  for (const std::size_t i : shuffled(pieces.size(), request.seed, 0)) {
    if (static_cast<long>(tokens.size()) >= request.tokens) break;
    const auto more = tokenizer.encode(pieces[i]);
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (!ends.empty()) tokens.push_back(ends.front());
  }
  if (static_cast<long>(tokens.size()) > request.tokens) {
    tokens.resize(static_cast<std::size_t>(request.tokens));
  }
  for (const mtp::token_t token : tokens) {
    mtp::check(token < config.vocab_size,
               "retrofit: the tokenizer has the token ",
               token,
               ", the model only ",
               config.vocab_size);
  }
  return tokens;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void compute(mtp::context<mtp::cpu>& context,
             const model_type& model,
             const windows& text,
             mtp::io::hidden_states_file& file) {
  const auto start = std::chrono::steady_clock::now();
  const mtp::index_t before = file.written() * block_rows(text.length);
  if (before > 0) std::printf("hidden states: %td rows are there already\n", before);
  double said = 0;
  compute_states<config, scalar>(
      context, model, text, file, [&](mtp::index_t done, mtp::index_t all) {
        const double seconds = seconds_since(start);
        if (done < all && seconds < said + 10) return;
        said = seconds;
        std::printf("hidden states: %td of %td, %.0f per second\n",
                    done,
                    all,
                    static_cast<double>(done - before) / seconds);
        std::fflush(stdout);
      });
}

void tell(const training_type::progress_type& now, mtp::index_t tokens) {
  std::printf("step %5td, %5.0f s, %8td tokens: loss %.4f, accepted",
              now.step,
              now.seconds,
              now.step * tokens,
              now.loss);
  for (std::size_t k = 1; k <= static_cast<std::size_t>(config.prediction.depth); ++k) {
    std::printf(" %4.1f%%", 100 * now.held_out.depths[k].agreement());
  }
  std::printf(", %.3f tokens per pass%s\n",
              now.held_out.tokens_per_pass(),
              now.best ? "" : " (not the best)");
  std::fflush(stdout);
}

/// Returns whether all texts were identical.
bool compare_texts(mtp::context<mtp::cpu>& context,
                   const model_type& model,
                   const windows& text,
                   std::span<const mtp::token_t> vocabulary,
                   const retrofit_request& request) {
  mtp::generator<config, mtp::cpu, scalar> generator(context, model);
  generator.set_draft_vocabulary(vocabulary);
  std::vector<std::vector<mtp::token_t>> prompts;
  for (mtp::index_t n = 0; n < (std::min)(mtp::index_t{request.compare}, text.held_out); ++n) {
    const auto sequence = text.sequence(text.training() + n);
    const auto prompt = sequence.first((std::min<std::size_t>)(sequence.size() / 2, 64));
    prompts.emplace_back(prompt.begin(), prompt.end());
  }
  bool identical = true;
  using options_type = mtp::generator<config, mtp::cpu, scalar>::options_type;
  const auto run = [&](const char* name, mtp::draft_schedule schedule, double temperature) {
    options_type how;
    how.max_new_tokens = request.compare_tokens;
    how.schedule = schedule;
    how.sampling.temperature = temperature;
    const auto sum = compare(generator, std::span<const std::vector<mtp::token_t>>(prompts), how);
    std::printf("%s: %s\n", name, text_of(sum).c_str());
    std::fflush(stdout);
    identical = identical && sum.identical;
  };
  using enum mtp::draft_schedule;
  run("greedy, all drafts", constant, 0);
  run("greedy, as many as pay", adaptive, 0);
  run("drawn, all drafts", constant, request.temperature);
  run("drawn, as many as pay", adaptive, request.temperature);
  return identical;
}

/// Returns the exit status.
int run(const retrofit_request& request) {
  mtp::io::check_config(request.folder, mtp_models::checkpoint);
  check_saving<config>(request.out);
  const auto start = std::chrono::steady_clock::now();
  const mtp::io::tokenizer tokenizer = mtp::io::read_tokenizer(request.folder / "tokenizer.json");
  windows text{
      read_texts(request, tokenizer), request.length, config.prediction.depth, request.held_out};
  text.validate();
  std::printf("text: %zu tokens, %td sequences of %td, %td of them held out\n",
              text.tokens.size(),
              text.count(),
              text.length,
              text.held_out);

  mtp::context<mtp::cpu> context({.threads = request.threads});
  model_type model(context, mtp::seed{request.seed});
  const auto read = mtp::io::load_pretrained(
      request.folder, model, mtp_models::checkpoint_family, mtp::io::extra_tensors::left_out);
  for (const std::string& name : read.left_out) std::printf("left out: %s\n", name.c_str());
  mtp::io::hidden_states_file file(
      request.states,
      {text.count() * text.length, config.hidden_size, block_rows(text.length)},
      origin_of(model, text));
  compute(context, model, text, file);

  start_from_trunk(context, model);
  small_type small(context, mtp::seed{request.seed});
  copy_for_heads(small, model);
  std::vector<mtp::token_t> tokens;  // that are drafted; empty: all
  if (request.vocabulary > 0 && request.vocabulary < config.vocab_size) {
    tokens = mtp::frequent_tokens(text.training_text(), request.vocabulary);
    std::printf("draft vocabulary: %zu tokens\n", tokens.size());
  }
  std::optional<training_type::vocabulary_type> vocabulary;
  if (!tokens.empty()) vocabulary.emplace(small, tokens, 1);
  training_type training(context,
                         small,
                         text,
                         file.rows(),
                         vocabulary ? &*vocabulary : nullptr,
                         {.batch = request.batch,
                          .minutes = request.minutes,
                          .steps = request.steps,
                          .rate = request.rate,
                          .weight_decay = request.weight_decay,
                          .beta = request.beta,
                          .distils = request.loss == "distillation",
                          .kl = request.kl,
                          .every = request.every,
                          .patience = request.patience,
                          .seed = request.seed});
  const auto best = training.run(
      [&](const training_type::progress_type& now) { tell(now, request.batch * request.length); });
  copy_head(model, small);
  save(request.out, request.folder, model, tokens);
  std::printf("%s: the head of step %td, %.0f seconds in all\n",
              request.out.c_str(),
              best.step,
              seconds_since(start));
  return request.compare == 0 || compare_texts(context, model, text, tokens, request) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a head that drafts for the checkpoint that it was compiled for", "retrofit");
  try {
    return run(parse_options(app, argc, argv));
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "retrofit: %s\n", problem.what());
    return 1;
  }
}
