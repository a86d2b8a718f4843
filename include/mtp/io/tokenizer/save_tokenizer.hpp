// Writes tokenizer.json, the file of Hugging Face's tokenizers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/tokenizer/byte_level.hpp"
#include "mtp/io/tokenizer/known_patterns.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"
#include "mtp/io/tokenizer/vocabulary.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// A text as JSON. Throws mtp::error if it is not UTF-8.
inline std::string json_string(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string result = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const character next = character_at(text, at);
    check(next.value != no_character, "save_tokenizer: a text is not UTF-8 at byte ", at);
    if (next.value < 0x20) {
      result += "\\u00";
      result += digits[next.value >> 4];
      result += digits[next.value & 0xf];
    } else {
      if (next.value == '"' || next.value == '\\') result += '\\';
      result += text.substr(at, next.bytes);
    }
    at += next.bytes;
  }
  return result + "\"";
}

/// Makes the parts of a tokenizer.json.
class tokenizer_json_writer {
 public:
  explicit tokenizer_json_writer(const tokenizer_model& model) : model_(model) {
    constexpr byte_level bytes;
    for (const std::string& each : model.tokens) {
      texts_.push_back(model.characters ? marked(each) : bytes.shown(each));
    }
    for (std::size_t byte = 0; model.characters && byte < model.characters->bytes.size(); ++byte) {
      texts_[static_cast<std::size_t>(model.characters->bytes[byte])] = vocabulary::byte_text(byte);
    }
    is_added_.resize(model.tokens.size());
    for (const added_token& each : model.added) {
      texts_[static_cast<std::size_t>(each.id)] = each.content;
      is_added_[static_cast<std::size_t>(each.id)] = true;
    }
  }

  std::string file() const {
    const bool has_template = !model_.prefix.empty() || !model_.suffix.empty();
    return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" +
           added_tokens() + R"(],"normalizer":)" + normalizer() + R"(,"pre_tokenizer":)" +
           (model_.characters ? metaspace() : pre_tokenizer()) + R"(,"post_processor":)" +
           (has_template        ? template_part()
            : model_.characters ? "null"
                                : byte_level_part(false)) +
           R"(,"decoder":)" + (model_.characters ? character_decoder() : byte_level_part(true)) +
           R"(,"model":{"type":"BPE","dropout":null,"unk_token":null,)"
           R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,)"
           R"("byte_fallback":)" +
           flag(model_.characters.has_value()) + R"(,"ignore_merges":)" +
           flag(model_.ignore_merges) + R"(,"vocab":{)" + vocab() + R"(},"merges":[)" + merges() +
           "]}}\n";
  }

 private:
  static std::string flag(bool holds) { return holds ? "true" : "false"; }

  /// Adds an element to those of an object or an array.
  static void add(std::string& all, const std::string& element) {
    if (!all.empty()) all += ',';
    all += element;
  }

  /// A text with U+2581 for spaces.
  static std::string marked(std::string_view text) {
    std::string result;
    for (const char byte : text) {
      result += byte == ' ' ? space_mark : std::string_view(&byte, 1);
    }
    return result;
  }

  static std::string replace_part(std::string_view from, std::string_view to) {
    return R"({"type":"Replace","pattern":{"String":)" + json_string(from) + R"(},"content":)" +
           json_string(to) + "}";
  }

  std::string normalizer() const {
    if (!model_.characters) {
      return model_.normalizer == text_normalizer::nfc ? R"({"type":"NFC"})" : "null";
    }
    const std::string replace = replace_part(" ", space_mark);
    if (model_.characters->space == leading_space::none) return replace;
    if (model_.characters->space != leading_space::each) return "null";
    return R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":)" +
           json_string(space_mark) + "}," + replace + "]}";
  }

  /// Where the normalizer does not say it.
  std::string metaspace() const {
    const leading_space space = model_.characters->space;
    if (space == leading_space::none || space == leading_space::each) return "null";
    return R"({"type":"Metaspace","replacement":)" + json_string(space_mark) +
           R"(,"prepend_scheme":")" +
           (space == leading_space::first_if_missing ? "first" : "always") + R"(","split":false})";
  }

  std::string character_decoder() const {
    return R"({"type":"Sequence","decoders":[)" + replace_part(space_mark, " ") +
           R"(,{"type":"ByteFallback"},{"type":"Fuse"})" +
           (model_.characters->drops_space
                ? R"(,{"type":"Strip","content":" ","start":1,"stop":0}]})"
                : "]}");
  }

  static std::string byte_level_part(bool use_regex) {
    return R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":)" +
           flag(use_regex) + "}";
  }

  std::string shown(token_t token) const {
    return json_string(texts_[static_cast<std::size_t>(token)]);
  }

  std::string added_tokens() const {
    std::vector<added_token> ordered = model_.added;
    std::sort(ordered.begin(), ordered.end(), [](const added_token& a, const added_token& b) {
      return a.id < b.id;
    });
    std::string all;
    for (const added_token& each : ordered) {
      add(all,
          R"({"id":)" + std::to_string(each.id) + R"(,"content":)" + json_string(each.content) +
              R"(,"single_word":)" + flag(each.single_word) + R"(,"lstrip":)" + flag(each.lstrip) +
              R"(,"rstrip":)" + flag(each.rstrip) + R"(,"normalized":)" + flag(each.normalized) +
              R"(,"special":)" + flag(each.special) + "}");
    }
    return all;
  }

  std::string pre_tokenizer() const {
    const std::vector<known_pretokenizer> known = known_pretokenizers();
    const pretokenizer_parts& parts =
        std::find_if(known.begin(), known.end(), [&](const known_pretokenizer& each) {
          return each.kind == model_.pieces;
        })->parts;
    std::string all;
    if (parts.has_single_digits) add(all, R"({"type":"Digits","individual_digits":true})");
    for (const std::string& each : parts.patterns) {
      add(all,
          R"({"type":"Split","pattern":{"Regex":)" + json_string(each) +
              R"(},"behavior":"Isolated","invert":false})");
    }
    add(all, byte_level_part(parts.has_gpt2_pattern));
    return R"({"type":"Sequence","pretokenizers":[)" + all + "]}";
  }

  std::string template_part() const {
    const std::string text_a = R"({"Sequence":{"id":"A","type_id":0}})";
    const std::string text_b = R"({"Sequence":{"id":"B","type_id":1}})";
    std::string single, special;
    std::unordered_set<token_t> seen;
    const auto add_all = [&](const std::vector<token_t>& tokens) {
      for (const token_t token : tokens) {
        const std::string text = shown(token);
        add(single, R"({"SpecialToken":{"id":)" + text + R"(,"type_id":0}})");
        if (!seen.insert(token).second) continue;
        add(special,
            text + R"(:{"id":)" + text + R"(,"ids":[)" + std::to_string(token) + R"(],"tokens":[)" +
                text + "]}");
      }
    };
    add_all(model_.prefix);
    add(single, text_a);
    add_all(model_.suffix);
    return R"({"type":"TemplateProcessing","single":[)" + single + R"(],"pair":[)" + text_a + "," +
           text_b + R"(],"special_tokens":{)" + special + "}}";
  }

  std::string vocab() const {
    // Readers number added tokens that are not in the vocabulary behind it.
    std::size_t end = texts_.size();
    while (end > 0 && is_added_[end - 1]) --end;
    std::string all;
    std::unordered_set<std::string> seen;
    for (std::size_t i = 0; i < end; ++i) {
      check(!texts_[i].empty(), "save_tokenizer: expected a text for each token, got none for ", i);
      check(seen.insert(texts_[i]).second,
            "save_tokenizer: token ",
            i,
            " is written like another, '",
            texts_[i],
            "'");
      add(all, json_string(texts_[i]) + ":" + std::to_string(i));
    }
    return all;
  }

  std::string merges() const {
    std::vector<token_merge> ordered = model_.merges;
    std::sort(ordered.begin(), ordered.end(), [](const token_merge& a, const token_merge& b) {
      return a.rank < b.rank;
    });
    std::string all;
    for (std::size_t i = 0; i < ordered.size(); ++i) {
      check(i == 0 || ordered[i].rank != ordered[i - 1].rank,
            "save_tokenizer: expected merges in an order, got two of rank ",
            ordered[i].rank,
            ", as tokenizers of tiktoken have them");
      add(all, "[" + shown(ordered[i].left) + "," + shown(ordered[i].right) + "]");
    }
    return all;
  }

  const tokenizer_model& model_;
  std::vector<std::string> texts_;  // of tokens, as files have them
  std::vector<bool> is_added_;
};

}  // namespace detail

/// Writes a tokenizer.json, which replaces `path` whole or not at all. read_tokenizer and the
/// package tokenizers read it. Throws mtp::error if merges have no order, if two tokens are written
/// alike, if an added token is not UTF-8, and if the file cannot be written.
inline void save_tokenizer(const std::filesystem::path& path, const tokenizer& tokens) {
  const std::string text = detail::tokenizer_json_writer(tokens.model()).file();
  atomic_file file(path);
  buffered_writer writer(file);
  writer.write(text);
  writer.flush();
  file.commit();
}

}  // namespace mtp::inline MTP_ABI::io
