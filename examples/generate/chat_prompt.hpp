// The prompt of a chat.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat_template.hpp"
#include "options.hpp"

namespace example {

/// The messages of a request as the checkpoint's template has them. Throws mtp::error if the folder
/// has no template, and CLI::ValidationError for values that are no object of JSON.
inline std::vector<mtp::token_t> chat_prompt(const generate_request& request,
                                             const mtp::io::tokenizer& tokens) {
  const std::optional<mtp::io::chat_template> chat = mtp::io::read_chat_template(request.folder);
  mtp::check(chat.has_value(), request.folder.string(), " has no chat template");
  std::vector<mtp::io::chat_message> messages;
  if (!request.system.empty()) messages.push_back({"system", request.system});
  messages.push_back({"user", request.prompt});
  mtp::io::chat_options options;
  options.more = nlohmann::ordered_json::parse(request.values, nullptr, false);
  if (!options.more.is_object()) {
    throw CLI::ValidationError("--values", "expected an object of JSON, got " + request.values);
  }
  return mtp::io::encode_chat(tokens, chat->render(messages, options));
}

}  // namespace example
