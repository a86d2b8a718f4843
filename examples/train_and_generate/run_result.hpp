// What a finished run tells other runs.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "measured.hpp"

namespace example {

struct run_result {
  std::string head;
  int depth = 0;
  std::int64_t parameters = 0;
  long steps = 0;
  long bytes_per_step = 0;
  std::string text_checksum;
  double validation = std::numeric_limits<double>::quiet_NaN();  // loss of the next byte, nats
  double tokens_per_forward = 1;
  std::vector<double> acceptance;  // 0..1 per draft position; empty: the head does not draft
  measured plain_tokens_per_s, speculative_tokens_per_s;
  measured speedup;  // speculative over plain, of rounds in turns
};

}  // namespace example
