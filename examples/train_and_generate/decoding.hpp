// The decoding half of the program: the same prompts both ways.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mtp/io/checksum.hpp"
#include "mtp/mtp.hpp"
#include "options.hpp"
#include "outcome.hpp"
#include "prompts.hpp"
#include "stopping.hpp"
#include "written_text.hpp"

namespace example {

/// Writes behind every prompt in both modes. First with a checksum over all logits, which is the
/// proof and the warm-up; then against the clock, with as many drafts as pay and the modes taking
/// turns, so that a change of the machine's mood meets both. Behind the prompts that are shown,
/// text is drawn as well: always the most probable byte sends a small model round in circles. Ends
/// where it is when the program is asked to stop.
template <class Generator>
decoding_outcome decode(const program_options& options,
                        Generator& generator,
                        const std::vector<std::string>& prompts) {
  using options_type = typename Generator::options_type;
  constexpr int timed_rounds = 5;
  decoding_outcome outcome;
  double speculative_passes = 0, speculative_tokens = 0;
  std::vector<double> drafted, accepted;
  const auto how_to = [&](std::size_t mode) {
    options_type how;
    how.mode = mode == 0 ? mtp::decode_mode::plain : mtp::decode_mode::speculative;
    how.max_new_tokens = options.new_tokens;
    how.on_token = [](mtp::token_t) { return stop_requested == 0; };
    return how;
  };
  written_text written;
  const auto keep_text = [&written](options_type& how) {
    written = {};
    how.on_token = [&written](const mtp::written_token& token) {
      written.add(token);
      return stop_requested == 0;
    };
  };
  const std::vector<std::size_t> shown = shown_of(prompts.size());
  for (std::size_t number = 0; number < prompts.size(); ++number) {
    const std::string& prompt = prompts[number];
    const auto start = to_tokens(prompt);
    std::array<std::uint64_t, 2> digests{};
    std::array<written_text, 2> texts;
    for (std::size_t mode = 0; mode < 2; ++mode) {
      mtp::io::xxh64 bits;
      std::vector<typename Generator::logit_type> row;
      options_type how = how_to(mode);
      how.on_logits = [&](mtp::index_t, auto logits) {
        row.resize(static_cast<std::size_t>(logits.extent(0)));
        generator.download(row, logits);
        bits.update(std::as_bytes(std::span(row)));
      };
      keep_text(how);
      const auto& result = generator.generate(start, how);
      texts[mode] = written;
      digests[mode] = bits.digest();
      if (mode == 1) {
        speculative_passes += static_cast<double>(result.forward_passes);
        speculative_tokens += static_cast<double>(result.tokens.size());
        drafted.resize(result.drafted.size());
        accepted.resize(result.accepted.size());
        for (std::size_t k = 0; k < drafted.size(); ++k) {
          drafted[k] += static_cast<double>(result.drafted[k]);
          accepted[k] += static_cast<double>(result.accepted[k]);
        }
      }
    }
    if (stop_requested != 0) break;
    outcome.identical =
        outcome.identical && texts[0].bytes == texts[1].bytes && digests[0] == digests[1];
    if (std::find(shown.begin(), shown.end(), number) == shown.end()) continue;
    continuation sample{prompt, texts[1], {}};
    if (options.temperature > 0) {
      options_type how = how_to(1);
      how.sampling = {.temperature = options.temperature,
                      .seed = mtp::seed{options.seed},
                      .sequence = static_cast<std::uint32_t>(number)};
      keep_text(how);
      generator.generate(start, how);
      sample.drawn = written;
      if (stop_requested != 0) break;
    }
    outcome.samples.push_back(std::move(sample));
  }
  outcome.prompts = prompts.size();
  std::array<std::vector<double>, 2> speeds;
  std::vector<double> ratios;
  for (int round = 0; round < timed_rounds && stop_requested == 0; ++round) {
    std::array<double, 2> seconds{}, tokens{};
    for (const auto& prompt : prompts) {
      const auto start = to_tokens(prompt);
      for (std::size_t turn = 0; turn < 2; ++turn) {
        const std::size_t mode = (turn + static_cast<std::size_t>(round)) % 2;
        options_type how = how_to(mode);
        how.schedule = mtp::draft_schedule::adaptive;
        const auto& result = generator.generate(start, how);
        seconds[mode] += result.decode_seconds;
        tokens[mode] += static_cast<double>(result.tokens.size());
      }
    }
    for (std::size_t mode = 0; mode < 2; ++mode) {
      speeds[mode].push_back(tokens[mode] / seconds[mode]);
    }
    ratios.push_back(speeds[1].back() / speeds[0].back());
  }
  outcome.interrupted = stop_requested != 0;
  if (outcome.interrupted) return outcome;
  outcome.rounds = timed_rounds;
  outcome.plain_tokens_per_s = summary_of(speeds[0]);
  outcome.speculative_tokens_per_s = summary_of(speeds[1]);
  outcome.speedup = summary_of(ratios);
  outcome.tokens_per_forward = speculative_tokens / speculative_passes;
  for (std::size_t k = 0; k < drafted.size() && drafted[k] > 0; ++k) {
    outcome.acceptance.push_back(accepted[k] / drafted[k]);
  }
  return outcome;
}

}  // namespace example
