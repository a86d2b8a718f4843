#include "mtp/train/window_batch.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

namespace mtp::test::train_window_batch_cases {

TEST_CASE("rows of a batch are the samples that were asked for, with masks where there are some") {
  constexpr index_t window = 6, n = 60;
  std::vector<std::uint8_t> text(n), mask(n, 1);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i);
  mask[31] = 0;
  const dataset<> plain(text, {}, {.window = window, .validation_share = 1});
  const dataset<> masked(text, {}, {.window = window, .validation_share = 1}, mask);

  mtp::detail::window_batch rows(2, window);
  rows.make_room(plain);
  rows.load_held_out(0, plain, 4);
  rows.load_held_out(1, plain, 5);
  const batch_view both = rows.view(2, window - 2);
  CHECK(both.batch == 2);
  CHECK(both.length == window - 2);
  CHECK(both.mask.empty());
  std::vector<token_t> tokens(window);
  std::vector<std::int32_t> segments(window);
  for (index_t b = 0; b < 2; ++b) {
    plain.validation_sample(4 + b, tokens, segments);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      CHECK(both.tokens[static_cast<std::size_t>(b * window) + i] == tokens[i]);
    }
  }
  CHECK(rows.view(1, window - 2).tokens.size() == static_cast<std::size_t>(window));

  rows.make_room(masked);
  rows.load_held_out(0, masked, 5);
  const batch_view one = rows.view(1, window - 2);
  REQUIRE(one.mask.size() == static_cast<std::size_t>(window));
  for (std::size_t i = 0; i < one.mask.size(); ++i) {
    CHECK((one.mask[i] == 0) == (one.tokens[i] == 31));
  }
  rows.make_room(plain);  // no mask stays behind
  CHECK(rows.view(1, window - 2).mask.empty());
}

}  // namespace mtp::test::train_window_batch_cases
