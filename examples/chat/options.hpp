// What the command line of the chat says.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "train_and_generate/options.hpp"

namespace example {

enum class colour { automatic, always, never };

struct chat_options {
  std::filesystem::path folder = "demo/sequential";
  double temperature = 0.8;
  double top_p = 1;
  std::uint64_t seed = 1;
  std::vector<std::string> stop;
  long max_tokens = 200;
  bool plain = false;
  colour colours = colour::automatic;
  int threads = 0;
  bool help = false;
};

inline constexpr const char* chat_usage = R"(chat [OPTION...] [DIR]

Continues what you type, line by line, with the model that train_and_generate has saved in DIR
(default: demo/sequential, which scripts/demo makes). Text from accepted drafts is coloured. An empty
line lets the model go on, Ctrl-C ends an answer, Ctrl-D the program.

  --temperature T   0: always the most likely byte (default: 0.8)
  --top-p P         draw among the fewest bytes of this probability together (default: 1)
  --seed N          the same seed and lines give the same answers (default: 1)
  --stop TEXT       ends an answer, without being shown; may be repeated
  --max-tokens N    bytes of an answer at most (default: 200)
  --plain           without drafts: the same text, one byte per pass
  --color WHEN      always, never, or auto: on a terminal, unless NO_COLOR is set (default: auto)
  --threads N       threads; 0: all that the process may use (default: 0)
)";

namespace detail {

/// A number that is all of `text`.
template <class Number>
Number number_of(std::string_view name, std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc() || stop != end) {
    throw wrong_use(std::string(name) + ": expected a number, got '" + std::string(text) + "'");
  }
  return number;
}

inline colour colour_of(std::string_view text) {
  if (text == "always") return colour::always;
  if (text == "never") return colour::never;
  if (text == "auto") return colour::automatic;
  throw wrong_use("--color: expected always, never or auto, got '" + std::string(text) + "'");
}

}  // namespace detail

/// Options are "--name value" or "--name=value". Throws wrong_use for what makes no sense; numbers
/// that no generation has are refused by the library.
inline chat_options parse_options(std::span<char* const> arguments) {
  chat_options options;
  bool has_folder = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (!argument.starts_with("-")) {
      if (has_folder)
        throw wrong_use("expected one folder, got a second one: '" + std::string(argument) + "'");
      options.folder = argument;
      has_folder = true;
      continue;
    }
    const std::string_view name = argument.substr(0, argument.find('='));
    const auto value = [&]() -> std::string_view {
      if (name.size() < argument.size()) return argument.substr(name.size() + 1);
      if (i + 1 == arguments.size()) throw wrong_use(std::string(name) + ": a value is missing");
      return arguments[++i];
    };
    if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (name == "--temperature") {
      options.temperature = detail::number_of<double>(name, value());
    } else if (name == "--top-p") {
      options.top_p = detail::number_of<double>(name, value());
    } else if (name == "--seed") {
      options.seed = detail::number_of<std::uint64_t>(name, value());
    } else if (name == "--stop") {
      options.stop.emplace_back(value());
    } else if (name == "--max-tokens") {
      options.max_tokens = detail::number_of<long>(name, value());
    } else if (argument == "--plain") {
      options.plain = true;
    } else if (name == "--color") {
      options.colours = detail::colour_of(value());
    } else if (name == "--threads") {
      options.threads = detail::number_of<int>(name, value());
    } else {
      throw wrong_use("there is no option '" + std::string(argument) + "'; --help lists all");
    }
  }
  return options;
}

}  // namespace example
