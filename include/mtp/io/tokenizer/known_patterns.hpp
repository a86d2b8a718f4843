// The regular expressions that a piece_scanner stands for, as files of tokenizers have them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/io/tokenizer/pieces.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// The parts of a pre-tokenizer in a tokenizer.json, in their order; ByteLevel comes last.
struct pretokenizer_parts {
  bool has_single_digits = false;     ///< Digits, each alone, in front
  std::vector<std::string> patterns;  ///< of Split
  bool has_gpt2_pattern = false;      ///< use_regex of ByteLevel

  bool operator==(const pretokenizer_parts&) const = default;
};

/// GPT-2's own expression, which ByteLevel means by use_regex.
inline constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Which parts make which pre-tokenizer.
struct known_pretokenizer {
  pretokenizer kind = pretokenizer::none;
  pretokenizer_parts parts;
};

/// All that can be read. The first of each kind is what is written.
inline std::vector<known_pretokenizer> known_pretokenizers() {
  const std::string either_case = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|";
  const std::string space = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
  const auto llama3 = [&](const std::string& digits) {
    return either_case + R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" + digits +
           R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|)" + space;
  };
  const std::string qwen3_5 = either_case + R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})" +
                              R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" + space;
  const std::string cl100k =
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+)"
      R"(|\s++$|\s*[\r\n]|\s+(?!\S)|\s)";
  const std::string east_asian = "[一-龥\u3040-ゟ゠-ヿ]+";
  // Its line ends stand in the files as characters, not as \r and \n.
  const std::string deepseek = R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
                               "\r\n"
                               R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
                               "\r\n"
                               R"(]*|\s*[)"
                               "\r\n"
                               R"(]+|\s+(?!\S)|\s+)";
  const std::string gpt2(gpt2_pattern);
  return {
      {pretokenizer::none, {}},
      {pretokenizer::gpt2, {false, {}, true}},
      {pretokenizer::gpt2, {false, {gpt2}, false}},
      {pretokenizer::smollm, {true, {}, true}},
      {pretokenizer::llama3, {false, {llama3("{1,3}")}, false}},
      {pretokenizer::cl100k, {false, {cl100k}, false}},
      {pretokenizer::qwen2, {false, {llama3("")}, false}},
      {pretokenizer::qwen3_5, {false, {qwen3_5}, false}},
      {pretokenizer::deepseek_v3, {false, {"\\p{N}{1,3}", east_asian, deepseek}, false}},
  };
}

/// The pre-tokenizer that consists of these parts, if it is known.
inline std::optional<pretokenizer> pretokenizer_of(const pretokenizer_parts& parts) {
  for (const known_pretokenizer& each : known_pretokenizers()) {
    if (each.parts == parts) return each.kind;
  }
  return {};
}

}  // namespace mtp::inline MTP_ABI::io::detail
