// A text of bytes that knows who wrote each of them.
#pragma once

#include <string>
#include <vector>

#include "mtp/decode/generate_options.hpp"

namespace example {

struct written_text {
  std::string bytes;
  std::vector<int> writers;  // of each byte: 0 the trunk, k an accepted draft k; or none

  /// Adds a token, in the order in which they are confirmed. Behind the drafts of a pass that were
  /// accepted comes a token of the trunk, so neighbours that were drafted belong to one pass.
  void add(const mtp::written_token& written) {
    const int before = writers.empty() ? 0 : writers.back();
    writers.push_back(written.drafted ? before + 1 : 0);
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(written.token)));
  }
  bool operator==(const written_text&) const = default;
};

}  // namespace example
