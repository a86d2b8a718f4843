// Chats as texts and as tokens: the template that a checkpoint has for them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/json_file.hpp"
#include "mtp/io/tokenizer/chat/chat_text.hpp"
#include "mtp/io/tokenizer/chat/evaluator.hpp"
#include "mtp/io/tokenizer/chat/parser.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"

namespace mtp::inline MTP_ABI::io {

/// A message of a chat.
struct chat_message {
  std::string role;     ///< such as "user": lower case letters and underscores
  std::string content;  ///< any text
};

namespace detail {

/// A value of JSON as one of a template; its texts come from outside.
inline jinja::value outside_value(const nlohmann::ordered_json& json, int depth = 0) {
  check(depth < max_json_depth, "chat_template: more than ", max_json_depth, " levels");
  if (json.is_string()) return chat_text(json.get<std::string>(), true);
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<std::uint64_t>() >> 63 != 0) return json.get<double>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_array()) {
    jinja::list all;
    for (const auto& each : json) all.push_back(outside_value(each, depth + 1));
    return all;
  }
  if (!json.is_object()) return jinja::none{};
  jinja::entries all;
  for (const auto& [key, each] : json.items()) {
    all.emplace_back(chat_text(key, true), outside_value(each, depth + 1));
  }
  return all;
}

}  // namespace detail

/// What a template gets beside the messages.
struct chat_options {
  /// Whether the text ends where the model's answer begins.
  bool add_generation_prompt = true;
  /// Other names and their values, such as "tools" or "enable_thinking": an object.
  nlohmann::ordered_json more = nlohmann::ordered_json::object();
};

/// A template in the subset of Jinja that chats need, as docs/tokenizers.md lists it. It makes of
/// messages what transformers' apply_chat_template makes.
class chat_template {
 public:
  /// `names` are texts of the template's own, such as bos_token. `where` begins the messages.
  /// Throws mtp::error with the line for what is no template, and for what is not supported, by its
  /// name.
  explicit chat_template(std::string_view source,
                         std::vector<std::pair<std::string, std::string>> names = {},
                         std::string where = "chat_template")
      : where_(std::move(where) + ": "), names_(std::move(names)) {
    constexpr std::size_t most = std::size_t{1} << 20;
    check(source.size() <= most, where_, "expected at most ", most, " bytes, got ", source.size());
    tree_ = detail::jinja::parser(source, where_).parse();
  }

  /// The text of a chat. Throws mtp::error with the line of the template, also if the template
  /// itself refuses the messages, for a role of other characters, and for a chat that takes more
  /// than 2 million steps or 64 MiB.
  chat_text render(std::span<const chat_message> messages, const chat_options& options = {}) const {
    detail::jinja::list all;
    for (const chat_message& each : messages) {
      const bool is_plain =
          !each.role.empty() &&
          each.role.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
      check(is_plain, where_, "expected roles of lower case letters, got '", each.role, "'");
      all.push_back(detail::jinja::entries{{chat_text("role"), detail::jinja::own(each.role)},
                                           {chat_text("content"), chat_text(each.content, true)}});
    }
    detail::jinja::entries names{
        {chat_text("messages"), std::move(all)},
        {chat_text("add_generation_prompt"), options.add_generation_prompt}};
    for (const auto& [name, text] : names_)
      names.emplace_back(chat_text(name), detail::jinja::own(text));
    check(options.more.is_object(), where_, "expected an object of more names");
    for (const auto& [name, each] : options.more.items()) {
      check(detail::jinja::find(names, name) == nullptr, where_, "the name ", name, " is taken");
      names.emplace_back(chat_text(name), detail::outside_value(each));
    }
    return detail::jinja::evaluator(std::move(names), where_).run(tree_);
  }

 private:
  std::string where_;
  std::vector<std::pair<std::string, std::string>> names_;
  detail::jinja::node tree_;
};

/// The template in the tokenizer_config.json or, if it is there, the chat_template.jinja of a
/// folder; none if neither has one. It gets bos_token, eos_token, pad_token and unk_token. Throws
/// mtp::error for files that cannot be read, and as chat_template does.
inline std::optional<chat_template> read_chat_template(const std::filesystem::path& folder) {
  const auto path = folder / "tokenizer_config.json", separate = folder / "chat_template.jinja";
  std::error_code ignored;
  nlohmann::json config = nlohmann::json::object();
  if (std::filesystem::exists(path, ignored)) config = read_json(path);
  const std::string where = "chat_template: '" + path.string() + "'";
  std::vector<std::pair<std::string, std::string>> names;
  for (const char* const name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    const auto found = config.find(name);
    if (found == config.end() || found->is_null()) continue;
    const nlohmann::json* text = &*found;
    if (found->is_object() && found->contains("content")) text = &found->at("content");
    check(text->is_string(), where, ": ", name, ": expected a text or an object with one");
    names.emplace_back(name, text->get<std::string>());
  }
  if (std::filesystem::exists(separate, ignored)) {
    return chat_template(detail::read_small_file(separate),
                         std::move(names),
                         "chat_template: '" + separate.string() + "'");
  }
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  const nlohmann::json* source = &*found;
  if (source->is_array()) {  // several with names
    for (const auto& each : *found) {
      const bool has_both = each.is_object() && each.contains("name") && each.contains("template");
      if (has_both && each.at("name") == "default") source = &each.at("template");
    }
  }
  check(source->is_string(), where, ": chat_template: expected a text, or a list with a default");
  return chat_template(source->get_ref<const std::string&>(), std::move(names), where);
}

/// The tokens of a chat. A special token is one only where all of its text is the template's own:
/// what looks like one in a message stays text. Added tokens that are not special are found
/// everywhere, as tokenizer::encode finds them. Throws mtp::error as that does, and for special
/// tokens that take white space or stand for words.
inline std::vector<token_t> encode_chat(const tokenizer& tokens, const chat_text& chat) {
  std::vector<const added_token*> special;
  for (const added_token& each : tokens.model().added) {
    if (!each.special) continue;
    check(!each.lstrip && !each.rstrip && !each.single_word,
          "encode_chat: the special token '",
          each.content,
          "' takes white space or stands for a word, which is not supported");
    special.push_back(&each);
  }
  std::sort(special.begin(), special.end(), [](const added_token* a, const added_token* b) {
    return a->content.size() > b->content.size();  // the longest is the one
  });
  std::vector<token_t> result;
  std::size_t start = 0;
  const auto add_text = [&](std::size_t end) {
    const std::string_view gap = std::string_view(chat.bytes()).substr(start, end - start);
    const auto some = tokens.encode(gap, {.parse_special = false, .add_special_tokens = false});
    result.insert(result.end(), some.begin(), some.end());
  };
  const std::string_view bytes = chat.bytes();
  for (std::size_t at = 0; at < bytes.size();) {
    const auto stands_here = [&](const added_token* each) {
      if (!bytes.substr(at).starts_with(each->content)) return false;
      for (std::size_t i = at; i < at + each->content.size(); ++i) {
        if (chat.is_outside(i)) return false;
      }
      return true;
    };
    const auto found = std::find_if(special.begin(), special.end(), stands_here);
    if (found == special.end()) {
      ++at;
      continue;
    }
    add_text(at);
    result.push_back((*found)->id);
    at += (*found)->content.size();
    start = at;
  }
  add_text(bytes.size());
  return result;
}

}  // namespace mtp::inline MTP_ABI::io
