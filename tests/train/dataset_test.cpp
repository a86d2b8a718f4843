// Windows of a text: which there are, which are held out, and what a sample holds.
#include "mtp/train/dataset.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mtp::test::train_dataset_cases {

namespace {

/// A text in which every token is its own position.
std::vector<std::int32_t> positions(index_t size) {
  std::vector<std::int32_t> text(static_cast<std::size_t>(size));
  std::iota(text.begin(), text.end(), 0);
  return text;
}

struct sample {
  std::vector<token_t> tokens;
  std::vector<std::int32_t> segments;

  friend bool operator==(const sample&, const sample&) = default;
};

template <class Element>
sample empty_sample(const dataset<Element>& data) {
  const auto window = static_cast<std::size_t>(data.window());
  return {std::vector<token_t>(window, -1), std::vector<std::int32_t>(window, -1)};
}

template <class Element>
sample training(const dataset<Element>& data, std::uint64_t number) {
  sample made = empty_sample(data);
  data.training_sample(number, made.tokens, made.segments);
  return made;
}

template <class Element>
sample validation(const dataset<Element>& data, index_t number) {
  sample made = empty_sample(data);
  data.validation_sample(number, made.tokens, made.segments);
  return made;
}

/// Windows are consecutive pieces of the text.
void check_consecutive(const sample& window, index_t size) {
  REQUIRE(window.tokens.front() >= 0);
  REQUIRE(window.tokens.back() < size);
  for (std::size_t i = 1; i < window.tokens.size(); ++i) {
    REQUIRE(window.tokens[i] == window.tokens[0] + static_cast<token_t>(i));
  }
}

struct shape {
  index_t size;
  index_t window;
  double share;
};

// From the smallest text that is possible to one with several held-out pieces.
const shape shapes[] = {{4, 2, 0.5},
                        {20, 10, 0.05},
                        {21, 10, 0.05},
                        {100, 10, 0.05},
                        {100, 9, 0.3},
                        {397, 5, 0.1},
                        {400, 3, 0.5},
                        {401, 4, 0.9},
                        {300, 7, 0}};

TEST_CASE("a sample is a function of the seed and its number") {
  const auto make = [](std::uint64_t seed_value) {
    return dataset<std::int32_t>(
        positions(1000), {0, 500}, {.window = 12, .seed = seed{seed_value}});
  };
  const auto data = make(1), again = make(1), other = make(2);
  std::vector<sample> forward;
  for (std::uint64_t n = 0; n < 50; ++n) {
    forward.push_back(training(data, n));
  }
  int differ = 0, repeated = 0;
  for (std::uint64_t n = 50; n-- > 0;) {
    CHECK(training(again, n) == forward[n]);
    differ += training(other, n) == forward[n] ? 0 : 1;
    repeated += n > 0 && forward[n] == forward[n - 1] ? 1 : 0;
  }
  CHECK(differ > 40);
  CHECK(repeated < 5);
  // Far into a run, where 32 bits would not do.
  const std::uint64_t far = std::uint64_t{1} << 40;
  CHECK(training(data, far) == training(again, far));
  CHECK_FALSE(training(data, far) == training(data, 0));
}

TEST_CASE("training visits every window of its text and nothing of what is held out") {
  for (const shape& here : shapes) {
    const index_t size = here.size;
    const index_t window = here.window;
    const double share = here.share;
    CAPTURE(size);
    CAPTURE(window);
    CAPTURE(share);
    const dataset<std::int32_t> data(
        positions(size), {}, {.window = window, .validation_share = share, .seed = seed{3}});
    std::vector<bool> trained(static_cast<std::size_t>(size)), held(trained.size());
    std::set<token_t> starts;
    const auto draws = static_cast<std::uint64_t>(20 * data.training_windows());
    for (std::uint64_t n = 0; n < draws; ++n) {
      const sample drawn = training(data, n);
      check_consecutive(drawn, size);
      starts.insert(drawn.tokens[0]);
      for (const token_t position : drawn.tokens) {
        trained[static_cast<std::size_t>(position)] = true;
      }
    }
    CHECK(static_cast<index_t>(starts.size()) == data.training_windows());
    token_t previous = -static_cast<token_t>(window);
    for (index_t n = 0; n < data.validation_windows(); ++n) {
      const sample drawn = validation(data, n);
      check_consecutive(drawn, size);
      // The last token of a window is only a target, so the next one may begin with it.
      CHECK(drawn.tokens[0] - previous >= window - 1);
      previous = drawn.tokens[0];
      for (const token_t position : drawn.tokens) {
        held[static_cast<std::size_t>(position)] = true;
      }
    }
    CHECK((data.validation_windows() > 0) == (share > 0));
    for (std::size_t i = 0; i < trained.size(); ++i) {
      CHECK_FALSE((trained[i] && held[i]));
    }
    // Nothing is lost but what is too short for a window beside a border.
    const auto lost = std::count(trained.begin(), trained.end(), false) -
                      std::count(held.begin(), held.end(), true);
    CHECK(lost >= 0);
    const auto expected = std::max(static_cast<double>(window), share * static_cast<double>(size));
    const auto unseen = static_cast<double>(std::count(trained.begin(), trained.end(), false));
    if (share > 0 && size > 50) {
      CHECK(unseen >= 0.8 * expected);
      CHECK(unseen <= 1.2 * expected + static_cast<double>(window));
    } else if (share == 0) {
      CHECK(unseen == 0);
      CHECK(data.training_windows() == size - window + 1);
    }
  }
}

TEST_CASE("what is held out is spread over the text") {
  const dataset<std::int32_t> data(
      positions(10000), {}, {.window = 10, .validation_share = 0.2, .seed = seed{3}});
  std::vector<int> tenths(10);
  for (index_t n = 0; n < data.validation_windows(); ++n) {
    ++tenths[static_cast<std::size_t>(validation(data, n).tokens[0] / 1000)];
  }
  for (const int windows : tenths) {
    CHECK(windows >= 10);
  }
}

TEST_CASE("segments tell documents apart, also empty ones and those that end with the text") {
  const std::vector<std::int64_t> starts{0, 3, 3, 17, 90, 200};
  const dataset<std::int32_t> data(
      positions(200), starts, {.window = 8, .validation_share = 0.1, .seed = seed{4}});
  const auto check_segments = [&](const sample& drawn) {
    for (std::size_t i = 0; i < drawn.tokens.size(); ++i) {
      const auto document = std::count_if(
          starts.begin(), starts.end(), [&](std::int64_t at) { return at <= drawn.tokens[i]; });
      REQUIRE(drawn.segments[i] == static_cast<std::int32_t>(document - 1));
    }
  };
  for (std::uint64_t n = 0; n < 3000; ++n) {
    check_segments(training(data, n));
  }
  for (index_t n = 0; n < data.validation_windows(); ++n) {
    check_segments(validation(data, n));
  }
}

TEST_CASE("a text without document starts is one document") {
  const dataset<std::int32_t> data(positions(50), {}, {.window = 8, .seed = seed{4}});
  CHECK(data.document_starts().size() == 1);
  for (std::uint64_t n = 0; n < 50; ++n) {
    CHECK(training(data, n).segments == std::vector<std::int32_t>(8, 0));
  }
}

TEST_CASE("bytes from 0 to 255 become tokens from 0 to 255") {
  std::vector<std::uint8_t> text(256);
  std::iota(text.begin(), text.end(), std::uint8_t{0});
  const dataset<> data(text, {}, {.window = 256, .validation_share = 0, .seed = seed{1}});
  CHECK(data.training_windows() == 1);
  std::vector<token_t> expected(256);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(training(data, 5).tokens == expected);
}

/// The message of the refusal, or "" if there is none.
std::string refusal(index_t size,
                    std::vector<std::int64_t> starts,
                    const dataset_options& options) {
  try {
    const dataset<std::int32_t> data(positions(size), std::move(starts), options);
  } catch (const error& problem) {
    return problem.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a text that is too short is refused with the windows that it needs") {
  CHECK(refusal(20, {}, {.window = 10}).empty());
  const std::string message = refusal(19, {}, {.window = 10});
  CHECK(contains(message, "at least 2 windows of 10 tokens"));
  CHECK(contains(message, "got 19"));
  CHECK(refusal(10, {}, {.window = 10, .validation_share = 0}).empty());
  CHECK(contains(refusal(9, {}, {.window = 10, .validation_share = 0}),
                 "at least 1 window of 10 tokens"));
  CHECK(contains(refusal(0, {}, {.window = 10}), "got 0"));
  CHECK(contains(refusal(100, {}, {.window = 10, .validation_share = 0.95}), "no training window"));
  constexpr index_t most = std::numeric_limits<index_t>::max();
  for (const index_t window : {most, most / 2 + 1}) {  // two of them wrap around
    CHECK(contains(refusal(100, {}, {.window = window}), "got 100 tokens"));
  }
}

TEST_CASE("windows without a target are refused") {
  for (const index_t window : {-1, 0, 1}) {
    CHECK(contains(refusal(100, {}, {.window = window}), "window"));
  }
  CHECK(refusal(100, {}, {.window = 2}).empty());
}

TEST_CASE("shares outside [0, 1] and negative strides are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double share : {-0.01, 1.01, 1.5, nan, infinity, -infinity}) {
    CAPTURE(share);
    CHECK(
        contains(refusal(100, {}, {.window = 10, .validation_share = share}), "validation share"));
  }
  CHECK(contains(refusal(100, {}, {.window = 10, .stride = -1}), "stride"));
}

TEST_CASE("held-out windows are a stride apart, window - 1 unless told") {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  for (const index_t stride : {index_t{1}, index_t{7}, index_t{9}, index_t{0}, index_t{33}, most}) {
    CAPTURE(stride);
    const dataset<std::int32_t> data(
        positions(100), {}, {.window = 10, .validation_share = 1, .stride = stride});
    CHECK(data.training_windows() == 0);
    const index_t apart = stride == 0 ? 9 : stride;
    CHECK(data.validation_windows() == 90 / apart + 1);
    sample window = empty_sample(data);
    for (index_t n = 0; n < data.validation_windows(); ++n) {
      data.validation_sample(n, window.tokens, window.segments);
      CHECK(window.tokens.front() == n * apart);
    }
    CHECK_THROWS_WITH_AS(
        data.training_sample(0, window.tokens, window.segments),
        "dataset: all of the text is held out (validation_share 1): there is nothing to train on",
        error);
  }
  CHECK(refusal(10, {}, {.window = 10, .validation_share = 1}).empty());
  CHECK(contains(refusal(9, {}, {.window = 10, .validation_share = 1}), "at least 1 window of 10"));
}

TEST_CASE("samples bring the masks of their tokens, ones where there is no mask") {
  std::vector<std::uint8_t> mask(100);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    mask[i] = i % 3 == 0 ? 5 : 0;
  }
  const dataset_options options{.window = 10, .validation_share = 0.3};
  const dataset<std::int32_t> masked(positions(100), {}, options, mask);
  const dataset<std::int32_t> plain(positions(100), {}, options);
  CHECK(masked.mask().size() == 100);
  CHECK(plain.mask().empty());
  sample window = empty_sample(masked), same = empty_sample(plain);
  const auto check_masks = [&](const std::vector<std::uint8_t>& actual, bool ones) {
    for (std::size_t i = 0; i < actual.size(); ++i) {
      CHECK(actual[i] == (ones ? 1 : window.tokens[i] % 3 == 0 ? 5 : 0));
    }
  };
  std::vector<std::uint8_t> room(10, 99), other(10, 99);
  for (std::uint64_t n = 0; n < 20; ++n) {
    masked.training_sample(n, window.tokens, window.segments, room);
    plain.training_sample(n, same.tokens, same.segments, other);
    CHECK(window.tokens == same.tokens);
    check_masks(room, false);
    check_masks(other, true);
  }
  for (index_t n = 0; n < masked.validation_windows(); ++n) {
    masked.validation_sample(n, window.tokens, window.segments, room);
    check_masks(room, false);
  }
  room.pop_back();
  CHECK_THROWS_AS(masked.training_sample(0, window.tokens, window.segments, room), error);
  mask.pop_back();
  CHECK_THROWS_WITH_AS(dataset<std::int32_t>(positions(100), {}, options, mask),
                       "dataset: expected a mask for each of 100 tokens, got 99",
                       error);
}

TEST_CASE("document starts that do not begin with 0, descend or leave the text are refused") {
  for (const auto& starts : {std::vector<std::int64_t>{1, 5},
                             {-1, 5},
                             {0, 7, 6},
                             {0, 101},
                             {0, std::numeric_limits<std::int64_t>::max()}}) {
    CHECK(contains(refusal(100, starts, {.window = 10}), "document starts"));
  }
}

TEST_CASE("samples that do not exist and room of the wrong size are refused") {
  const dataset<std::int32_t> data(positions(100), {}, {.window = 10});
  sample room = empty_sample(data);
  CHECK_THROWS_AS(data.validation_sample(-1, room.tokens, room.segments), error);
  CHECK_THROWS_AS(data.validation_sample(data.validation_windows(), room.tokens, room.segments),
                  error);
  room.tokens.pop_back();
  CHECK_THROWS_AS(data.training_sample(0, room.tokens, room.segments), error);
  CHECK_THROWS_AS(data.validation_sample(0, room.tokens, room.segments), error);
  room = empty_sample(data);
  room.segments.push_back(0);
  CHECK_THROWS_AS(data.training_sample(0, room.tokens, room.segments), error);
}

}  // namespace

}  // namespace mtp::test::train_dataset_cases
