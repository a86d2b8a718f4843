// The draft vocabulary of a checkpoint, in a file beside it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/json_file.hpp"

namespace example {

inline constexpr const char* draft_tokens_name = "draft_tokens.json";

/// The list of tokens in draft_tokens.json; none without the file. Throws mtp::error for anything
/// else.
inline std::vector<mtp::token_t> read_draft_tokens(const std::filesystem::path& folder) {
  const auto path = folder / draft_tokens_name;
  if (!std::filesystem::exists(path)) return {};
  const nlohmann::json all = mtp::io::read_json(path);
  const auto found = all.find("draft_tokens");
  mtp::check(all.size() == 1 && found != all.end() && found->is_array() && !found->empty(),
             path.string(),
             ": expected one field, draft_tokens, with a list of tokens");
  std::vector<mtp::token_t> tokens;
  for (const auto& each : *found) {
    mtp::check(each.is_number_unsigned() && each.get<std::uint64_t>() < (1u << 30),
               path.string(),
               ": expected a token, got ",
               each.dump());
    tokens.push_back(each.get<mtp::token_t>());
  }
  return tokens;
}

inline void write_draft_tokens(const std::filesystem::path& folder,
                               std::span<const mtp::token_t> tokens) {
  const nlohmann::json all{
      {"draft_tokens", std::vector<mtp::token_t>(tokens.begin(), tokens.end())}};
  mtp::io::atomic_file file(folder / draft_tokens_name);
  mtp::io::buffered_writer writer(file);
  writer.write(all.dump() + "\n");
  writer.flush();
  file.commit();
}

}  // namespace example
