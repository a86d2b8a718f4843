// A conversation in a terminal with a model that train_and_generate has saved: text is shown as it
// is confirmed, what was drafted in green.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <span>
#include <string>

#include "mtp/decode/text_stream.hpp"
#include "options.hpp"
#include "terminal.hpp"
#include "train_and_generate/prompts.hpp"
#include "train_and_generate/saved_model.hpp"

namespace {

using namespace example;

/// An answer as it is written.
struct answer {
  std::string text;  // all bytes, also those of a stop string
  writing_figures figures;
  bool interrupted = false;
};

answer write_answer(saved_model& model,
                    const std::string& conversation,
                    saved_model::options_type how,
                    mtp::text_stream& stream,
                    const screen& out) {
  answer written;
  const interruption end;
  how.on_token = [&](const mtp::written_token& token) {
    const char byte = static_cast<char>(token.token);  // a token is a byte
    written.text += byte;
    out.show(stream.push({&byte, 1}, mtp::origin_of(token)));
    return !stream.stop() && !end.is_asked_for();
  };
  written.figures = model.write(to_tokens(conversation), how);
  out.show(stream.finish());
  out.end_line();
  written.interrupted = end.is_asked_for();
  return written;
}

/// On standard error, so that standard output has the text alone.
void say(const answer& written, bool faint) {
  const writing_figures& figures = written.figures;
  std::string line = std::to_string(figures.tokens) + " tokens";
  const auto add = [&line](const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof(text), format, value);
    line += text;
  };
  add(", %.2f per pass", figures.tokens_per_forward);
  for (std::size_t k = 0; k < figures.acceptance.size(); ++k) {
    add(k == 0 ? ", accepted %.0f" : " %.0f", 100 * figures.acceptance[k]);
  }
  line += figures.acceptance.empty() ? "" : " %";
  add(", %.0f tokens/s", static_cast<double>(figures.tokens) / figures.seconds);
  line += written.interrupted ? ", interrupted" : "";
  std::fprintf(stderr, faint ? "\x1b[2m[%s]\x1b[0m\n" : "[%s]\n", line.c_str());
}

/// The next line of the user; false at the end of the input.
bool ask(std::string& line) {
  if (::isatty(STDIN_FILENO) != 0) std::fputs("> ", stderr);
  return static_cast<bool>(std::getline(std::cin, line));
}

void converse(const chat_options& options) {
  mtp::text_stream stream(options.stop);
  const screen out(options.colours);
  const bool faint = is_coloured(options.colours, STDERR_FILENO);
  const std::unique_ptr<saved_model> model = open_saved_model(options.folder, options.threads);
  if (options.max_tokens < 1 || options.max_tokens >= model->positions()) {
    throw wrong_use("--max-tokens: expected 1 to " + std::to_string(model->positions() - 1) +
                    ", got " + std::to_string(options.max_tokens));
  }
  saved_model::options_type how;
  how.mode = options.plain ? mtp::decode_mode::plain : mtp::decode_mode::speculative;
  how.max_new_tokens = options.max_tokens;
  how.schedule = mtp::draft_schedule::adaptive;
  how.reuse_prefix = true;  // the conversation goes on
  how.sampling = {
      .temperature = options.temperature, .top_p = options.top_p, .seed = mtp::seed{options.seed}};
  const auto room = static_cast<std::size_t>(model->positions() - options.max_tokens);
  std::string conversation, line;
  while (ask(line)) {
    if (!line.empty()) conversation += (conversation.empty() ? "" : "\n") + line;
    if (conversation.empty()) continue;
    if (conversation.size() > room) conversation.erase(0, conversation.size() - room);
    const answer written = write_answer(*model, conversation, how, stream, out);
    say(written, faint);
    conversation += written.text;
    ++how.sampling.sequence;  // other noise for the next answer
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto options = parse_options({argv + 1, static_cast<std::size_t>(argc - 1)});
    if (options.help) {
      std::fputs(chat_usage, stdout);
    } else {
      converse(options);
    }
    return 0;
  } catch (const wrong_use& problem) {
    std::fprintf(stderr, "chat: %s\n", problem.what());
    return 2;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "chat: %s\n", problem.what());
    return 1;
  }
}
