// The tokens that end a text, as checkpoints name them.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/json_file.hpp"

namespace example {

/// "eos_token_id", a number or a list, of generation_config.json, else of config.json; none if
/// neither has it. Throws mtp::error for anything else.
inline std::vector<mtp::token_t> end_tokens(const std::filesystem::path& folder) {
  for (const char* const name : {"generation_config.json", "config.json"}) {
    const auto path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    const nlohmann::json all = mtp::io::read_json(path);
    const auto found = all.find("eos_token_id");
    if (found == all.end() || found->is_null()) continue;
    std::vector<mtp::token_t> tokens;
    for (const auto& each : found->is_array() ? *found : nlohmann::json::array({*found})) {
      mtp::check(each.is_number_unsigned() && each.get<std::uint64_t>() < (1u << 30),
                 path.string(),
                 ": eos_token_id: expected a token or a list of tokens, got ",
                 found->dump());
      tokens.push_back(each.get<mtp::token_t>());
    }
    return tokens;
  }
  return {};
}

}  // namespace example
