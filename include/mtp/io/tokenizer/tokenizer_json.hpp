// Reads tokenizer.json, the file of Hugging Face's tokenizers.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/strict_json.hpp"
#include "mtp/io/tokenizer/json_place.hpp"
#include "mtp/io/tokenizer/known_patterns.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"
#include "mtp/io/tokenizer/vocabulary.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// The bytes of a file of a tokenizer, at most 256 MiB.
inline std::string tokenizer_bytes(const std::filesystem::path& path) {
  constexpr std::uint64_t most = std::uint64_t{256} << 20;
  const input_file file(path);
  check(file.size() <= most,
        "tokenizer: '",
        path.string(),
        "': expected a file of at most ",
        most,
        " bytes, got ",
        file.size());
  std::string bytes(static_cast<std::size_t>(file.size()), '\0');
  file.read_exactly(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

/// Reads the parts of the file. What this library does not do is refused by its name; `truncation`
/// and `padding`, which are about batches, are left to the program.
class tokenizer_json_reader {
 public:
  explicit tokenizer_json_reader(json_place file) : file_(std::move(file)) {}

  tokenizer_model read(const std::string& where) {
    constexpr std::array<std::string_view, 9> keys{"version",
                                                   "truncation",
                                                   "padding",
                                                   "added_tokens",
                                                   "normalizer",
                                                   "pre_tokenizer",
                                                   "post_processor",
                                                   "decoder",
                                                   "model"};
    file_.expect_keys(keys);
    if (const auto version = file_.find("version"); version && version->string() != "1.0") {
      version->refuse("expected '1.0', got '", version->string(), "'");
    }
    const auto decoder = file_.find("decoder");
    if (!decoder) file_.refuse("expected a decoder, got none");
    const bool has_characters = falls_back(*decoder);
    tokenizer_model model = read_vocabulary(where, has_characters);
    model.ignore_merges = file_.at("model").flag("ignore_merges");
    if (const auto part = file_.find("post_processor")) read_post_processor(*part, model);
    if (has_characters) {
      read_character_rules(*decoder, *model.characters);
      model.pieces = pretokenizer::none;
      return model;
    }
    if (const auto part = file_.find("normalizer")) read_normalizer(*part, model);
    read_pretokenizer(model);
    read_decoder(*decoder);
    if (file_.at("model").flag("byte_fallback")) check_byte_fallback(file_.at("model"), model);
    return model;
  }

 private:
  static std::string type_of(const json_place& part) { return part.at("type").string(); }

  /// The members of a Sequence, otherwise the part alone.
  static std::vector<json_place> parts_of(const json_place& part, const char* name) {
    if (type_of(part) != "Sequence") return {part};
    return part.at(name).elements();
  }

  /// Whether a decoder makes bytes of tokens such as "<0x0A>".
  static bool falls_back(const json_place& decoder) {
    for (const json_place& each : parts_of(decoder, "decoders")) {
      if (type_of(each) == "ByteFallback") return true;
    }
    return false;
  }

  tokenizer_model read_vocabulary(const std::string& where, bool has_characters) {
    constexpr std::array<std::string_view, 11> keys{"type",
                                                    "dropout",
                                                    "unk_token",
                                                    "continuing_subword_prefix",
                                                    "end_of_word_suffix",
                                                    "fuse_unk",
                                                    "byte_fallback",
                                                    "ignore_merges",
                                                    "vocab",
                                                    "merges",
                                                    "cache_capacity"};
    const json_place part = file_.at("model");
    part.expect_keys(keys);
    if (const auto type = part.find("type"); type && type->string() != "BPE") {
      type->refuse("expected 'BPE', got '", type->string(), "'");
    }
    if (const auto dropout = part.find("dropout");
        dropout && !(dropout->json().is_number() && dropout->json().get<double>() == 0)) {
      dropout->refuse("expected null or 0, got ", dropout->json().dump().substr(0, 100));
    }
    for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (const auto affix = part.find(key); affix && !affix->string().empty()) {
        affix->refuse("expected null or '', got '", affix->string(), "'");
      }
    }
    if (const auto unknown = part.find("unk_token")) unknown->string();
    part.flag("fuse_unk");

    const json_place vocab = part.at("vocab");
    std::vector<json_place> added;
    if (const auto all = file_.find("added_tokens")) added = all->elements();
    const std::size_t most = vocab.object().size() + added.size();
    vocabulary result(most, where);
    for (const auto& [text, id] : vocab.object().items()) {
      if (!id.is_number_unsigned() || id.get<nlohmann::json::number_unsigned_t>() >= most)
          [[unlikely]] {
        vocab.at(text).token(most);  // throws
      }
      result.add(text, id.get<token_t>());
    }
    for (const json_place& each : added) result.add(read_added(each, most));
    const json_place merges = part.at("merges");
    for (std::size_t i = 0; i < merges.array().size(); ++i) {
      const nlohmann::json& merge = merges.array()[i];
      if (merge.is_string()) {
        result.add_merge(merge.get_ref<const std::string&>());
      } else {
        const json_place pair = merges.at(i);
        if (pair.array().size() != 2) pair.refuse("expected 2 tokens, got ", merge.size());
        result.add_merge(pair.at(std::size_t{0}).string(), pair.at(1).string());
      }
    }
    if (!has_characters) return result.take();
    if (!part.flag("byte_fallback")) part.refuse("byte_fallback: expected true, got false");
    return result.take_characters();
  }

  /// A Replace of one text by another.
  static void expect_replace(const json_place& part, std::string_view from, std::string_view to) {
    const std::string pattern = part.at("pattern").at("String").string();
    if (pattern != from) part.refuse("expected the pattern '", from, "', got '", pattern, "'");
    const std::string content = part.at("content").string();
    if (content != to) part.refuse("expected the content '", to, "', got '", content, "'");
  }

  /// Spaces, which such files write as U+2581: where they are put and where they are dropped.
  void read_character_rules(const json_place& decoder, character_rules& rules) const {
    bool is_replaced = false;
    if (const auto normalizer = file_.find("normalizer")) {
      for (const json_place& each : parts_of(*normalizer, "normalizers")) {
        const std::string type = type_of(each);
        if (type == "Prepend" && !is_replaced && rules.space == leading_space::none) {
          const std::string text = each.at("prepend").string();
          if (text != space_mark)
            each.refuse("prepend: expected '", space_mark, "', got '", text, "'");
          rules.space = leading_space::each;
        } else if (type == "Replace" && !is_replaced) {
          expect_replace(each, " ", space_mark);
          is_replaced = true;
        } else {
          each.refuse("expected Prepend, then Replace, got '", type, "'");
        }
      }
    }
    if (const auto part = file_.find("pre_tokenizer")) {
      if (is_replaced || type_of(*part) != "Metaspace") {
        part->refuse(
            "expected none, or Metaspace without a normalizer, got '", type_of(*part), "'");
      }
      read_metaspace(*part, rules);
      is_replaced = true;
    }
    if (!is_replaced) file_.refuse("expected a normalizer with Replace, or Metaspace, got neither");
    read_character_decoder(decoder, rules);
  }

  static void read_metaspace(const json_place& part, character_rules& rules) {
    const std::string replacement = part.at("replacement").string();
    if (replacement != space_mark) {
      part.refuse("replacement: expected '", space_mark, "', got '", replacement, "'");
    }
    const auto split = part.find("split");
    if (!split || split->boolean()) part.refuse("split: expected false, got true");
    const std::string scheme = part.at("prepend_scheme").string();
    if (scheme == "first") {
      rules.space = leading_space::first_if_missing;
    } else if (scheme == "always") {
      rules.space = leading_space::each_if_missing;
    } else if (scheme != "never") {
      part.refuse("prepend_scheme: expected first, always or never, got '", scheme, "'");
    }
  }

  static void read_character_decoder(const json_place& decoder, character_rules& rules) {
    const std::vector<json_place> parts = parts_of(decoder, "decoders");
    const auto is = [&](std::size_t i, const char* type) {
      return i < parts.size() && type_of(parts[i]) == type;
    };
    if (!is(0, "Replace") || !is(1, "ByteFallback") || !is(2, "Fuse") ||
        parts.size() > (is(3, "Strip") ? 4 : 3)) {
      decoder.refuse("expected Replace, ByteFallback, Fuse and possibly Strip");
    }
    expect_replace(parts[0], space_mark, " ");
    if (parts.size() == 3) return;
    const json_place& strip = parts[3];
    if (strip.at("content").string() != " " || strip.at("start").json() != 1 ||
        strip.at("stop").json() != 0) {
      strip.refuse("expected one space at the start and none at the end");
    }
    rules.drops_space = true;
  }

  /// With a token for each byte nothing falls back.
  static void check_byte_fallback(const json_place& part, const tokenizer_model& model) {
    std::array<bool, 256> has{};
    for (const std::string& each : model.tokens) {
      if (each.size() == 1) has[static_cast<unsigned char>(each[0])] = true;
    }
    for (std::size_t byte = 0; byte < has.size(); ++byte) {
      if (!has[byte]) {
        part.at("byte_fallback")
            .refuse(
                "expected a byte-level vocabulary, which falls back nowhere, got none for byte ",
                byte);
      }
    }
  }

  static added_token read_added(const json_place& part, std::size_t most) {
    constexpr std::array<std::string_view, 7> keys{
        "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"};
    part.expect_keys(keys);
    const json_place content = part.at("content");
    if (content.string().empty()) content.refuse("expected a text, got none");
    return {.id = part.at("id").token(most),
            .content = content.string(),
            .special = part.flag("special"),
            .normalized = part.flag("normalized"),
            .lstrip = part.flag("lstrip"),
            .rstrip = part.flag("rstrip"),
            .single_word = part.flag("single_word")};
  }

  static void read_normalizer(const json_place& part, tokenizer_model& model) {
    for (const json_place& each : parts_of(part, "normalizers")) {
      if (type_of(each) != "NFC") {
        each.refuse("expected no normalizer or NFC, got '", type_of(each), "'");
      }
      model.normalizer = text_normalizer::nfc;
    }
  }

  void read_pretokenizer(tokenizer_model& model) const {
    const auto part = file_.find("pre_tokenizer");
    if (!part) file_.refuse("expected a pre_tokenizer with ByteLevel, got none");
    pretokenizer_parts found;
    bool is_complete = false;
    for (const json_place& each : parts_of(*part, "pretokenizers")) {
      const std::string type = type_of(each);
      if (is_complete) each.refuse("expected ByteLevel to be the last, got '", type, "' behind it");
      if (type == "ByteLevel") {
        if (each.flag("add_prefix_space")) {
          each.refuse("add_prefix_space: expected false, got true");
        }
        const auto use = each.find("use_regex");  // older files have the expression without a word
        found.has_gpt2_pattern = !use || use->boolean();
        is_complete = true;
      } else if (type == "Digits" && each.flag("individual_digits") && found.patterns.empty()) {
        found.has_single_digits = true;
      } else if (type == "Split") {
        found.patterns.push_back(read_split(each));
      } else {
        each.refuse(
            "expected Split, Digits that are individual and come first, or ByteLevel, got '",
            type,
            "'");
      }
    }
    if (!is_complete) part->refuse("expected ByteLevel at the end, got none");
    const std::optional<pretokenizer> kind = pretokenizer_of(found);
    if (!kind) {
      std::string patterns;
      for (const std::string& each : found.patterns) patterns += " '" + each + "'";
      part->refuse("expected a known pre-tokenizer, got ",
                   found.has_single_digits ? "Digits, " : "",
                   "Split with",
                   patterns.empty() ? " nothing" : patterns.substr(0, 1000),
                   found.has_gpt2_pattern ? ", GPT-2's expression" : "");
    }
    model.pieces = *kind;
  }

  /// The expression of a Split. Pieces between matches are pieces as well.
  static std::string read_split(const json_place& part) {
    const json_place behavior = part.at("behavior");
    if (behavior.string() != "Isolated") {
      behavior.refuse("expected 'Isolated', got '", behavior.string(), "'");
    }
    if (part.flag("invert")) part.refuse("invert: expected false, got true");
    return part.at("pattern").at("Regex").string();
  }

  void read_post_processor(const json_place& part, tokenizer_model& model) const {
    for (const json_place& each : parts_of(part, "processors")) {
      const std::string type = type_of(each);
      if (type == "ByteLevel") continue;  // about offsets alone
      if (type != "TemplateProcessing") {
        each.refuse("expected ByteLevel or TemplateProcessing, got '", type, "'");
      }
      if (!model.prefix.empty() || !model.suffix.empty()) {
        each.refuse("expected one TemplateProcessing, got two");
      }
      read_template(each, model);
    }
  }

  static void read_template(const json_place& part, tokenizer_model& model) {
    bool has_text = false;
    for (const json_place& each : part.at("single").elements()) {
      if (const auto sequence = each.find("Sequence")) {
        if (sequence->at("id").string() != "A" || has_text) {
          sequence->refuse("expected the text A once");
        }
        has_text = true;
        continue;
      }
      const std::string name = each.at("SpecialToken").at("id").string();
      const json_place ids = part.at("special_tokens").at(name).at("ids");
      std::vector<token_t>& to = has_text ? model.suffix : model.prefix;
      for (const json_place& id : ids.elements()) to.push_back(id.token(model.tokens.size()));
    }
    if (!has_text) part.at("single").refuse("expected the text A once, got none");
  }

  static void read_decoder(const json_place& part) {
    const std::vector<json_place> parts = parts_of(part, "decoders");
    if (parts.size() != 1 || type_of(parts[0]) != "ByteLevel") {
      part.refuse("expected ByteLevel, got ",
                  parts.empty() ? std::string("nothing") : "'" + type_of(parts[0]) + "'",
                  parts.size() > 1 ? " and more" : "");
    }
  }

  json_place file_;
};

}  // namespace detail

/// The model in the text of a tokenizer.json. `where` begins the messages. Throws mtp::error as
/// read_tokenizer does.
inline tokenizer_model parse_tokenizer_json(std::string_view text, const std::string& where) {
  const nlohmann::json file = detail::parse_strictly(text, where + ": ");
  return detail::tokenizer_json_reader({file, where + ": "}).read(where + ": ");
}

/// Reads a tokenizer.json with a byte-level BPE: the pre-tokenizers of `pretokenizer`, the
/// normalizer NFC or none; or with a BPE of characters with byte_fallback, as Llama 2, Mistral and
/// Gemma have it. Added tokens, a template for one text. Throws mtp::error with the file,
/// the place in it, what was expected and what came, also for all that this library does not do.
inline tokenizer read_tokenizer(const std::filesystem::path& path) {
  const std::string where = "tokenizer: '" + path.string() + "'";
  return tokenizer(parse_tokenizer_json(detail::tokenizer_bytes(path), where), where);
}

}  // namespace mtp::inline MTP_ABI::io
