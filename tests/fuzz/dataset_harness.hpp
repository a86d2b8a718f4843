// Bytes as options and document starts of a dataset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "fuzz/input.hpp"
#include "mtp/train/dataset.hpp"

namespace mtp::fuzz::dataset_harness {

/// What one window promises. The text is 0, 1, 2, .., so a token tells its position.
inline void check_window(const dataset<token_t>& data,
                         std::span<const token_t> tokens,
                         std::span<const std::int32_t> segments) {
  const auto starts = data.document_starts();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    promise(tokens[i] >= 0 && tokens[i] < data.size(), "a token stands in the text");
    promise(i == 0 || tokens[i] == tokens[i - 1] + 1, "a window is a piece of the text");
    const auto document =
        std::upper_bound(starts.begin(), starts.end(), tokens[i]) - starts.begin() - 1;
    promise(segments[i] == document, "a segment is the document that the token stands in");
  }
}

/// window, share, seed, number of starts, their distances, and as many tokens as the rest has
/// bytes.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  input in(bytes);
  dataset_options options;
  const auto window = in.take<std::int8_t>();
  options.window = window < 0 ? in.take<std::int64_t>() : window;  // mostly one that fits
  const auto share = in.take<std::uint8_t>();
  options.validation_share = share < 250 ? share / 256.0 : in.take<double>();
  options.seed = seed{in.take<std::uint64_t>()};
  std::vector<std::int64_t> starts(in.take<std::uint8_t>() % 16);
  std::int64_t start = 0;
  for (auto& each : starts) {
    start += in.take<std::int8_t>();
    each = start;
  }
  std::vector<token_t> text(in.rest().size());
  std::iota(text.begin(), text.end(), 0);
  const std::size_t size = text.size();

  std::vector<bool> held_out(size);
  accepted([&] {
    const dataset<token_t> data(std::move(text), std::move(starts), options);
    promise(data.training_windows() > 0, "there is something to train on");
    std::vector<token_t> tokens(static_cast<std::size_t>(data.window()));
    std::vector<std::int32_t> segments(tokens.size());
    promise(accepted([&] {
              for (index_t n = 0; n < data.validation_windows(); ++n) {
                data.validation_sample(n, tokens, segments);
                check_window(data, tokens, segments);
                for (const token_t at : tokens) {
                  held_out[static_cast<std::size_t>(at)] = true;
                }
              }
              for (std::uint64_t n = 0; n < 32; ++n) {
                data.training_sample(n, tokens, segments);
                check_window(data, tokens, segments);
                for (const token_t at : tokens) {
                  promise(!held_out[static_cast<std::size_t>(at)], "held-out text never trains");
                }
              }
            }),
            "a dataset that was made gives its samples");
    promise(!accepted([&] { data.validation_sample(data.validation_windows(), tokens, segments); }),
            "there is no window behind the last");
  });
}

}  // namespace mtp::fuzz::dataset_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call. Each harness has a namespace of its own, because functions of
/// one name in several files of a program would be taken for one function.
namespace harness = dataset_harness;
}  // namespace mtp::fuzz
