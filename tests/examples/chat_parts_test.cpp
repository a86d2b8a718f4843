// What the chat is made of: its command line, its terminal. tests/examples/chat_test.sh runs it.
#include <doctest/doctest.h>

#include <csignal>
#include <string>
#include <vector>

#include "chat/options.hpp"
#include "chat/terminal.hpp"

namespace examples_chat_parts_cases {

namespace {

example::chat_options parsed(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return example::parse_options(arguments);
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    static_cast<void>(parsed(words));
  } catch (const example::wrong_use& problem) {
    return problem.what();
  }
  return "nothing was refused";
}

}  // namespace

TEST_CASE("an option has its value behind it or behind an equals sign") {
  const auto options = parsed({"--temperature",
                               "0.5",
                               "folder",
                               "--stop=a=b",
                               "--stop",
                               "--",
                               "--plain",
                               "--color=never",
                               "--seed",
                               "18446744073709551615"});
  CHECK(options.temperature == 0.5);
  CHECK(options.folder == "folder");
  CHECK(options.stop == std::vector<std::string>{"a=b", "--"});
  CHECK(options.plain);
  CHECK(options.colours == example::colour::never);
  CHECK(options.seed == 18446744073709551615u);
  CHECK(parsed({}).folder == "demo/sequential");
  CHECK(parsed({"--help"}).help);
}

TEST_CASE("what the chat does not know is refused by name") {
  CHECK(refusal({"--colour", "never"}) == "there is no option '--colour'; --help lists all");
  CHECK(refusal({"--plain=no"}) == "there is no option '--plain=no'; --help lists all");
  CHECK(refusal({"--color", "red"}) == "--color: expected always, never or auto, got 'red'");
  CHECK(refusal({"--seed", "-1"}) == "--seed: expected a number, got '-1'");
  CHECK(refusal({"--threads", "2x"}) == "--threads: expected a number, got '2x'");
  CHECK(refusal({"--seed"}) == "--seed: a value is missing");
  CHECK(refusal({"a", "b"}) == "expected one folder, got a second one: 'b'");
}

TEST_CASE("control characters do not reach a terminal") {
  using example::without_control;
  CHECK(without_control("a\n\tb\xc3\xa4 \xc2\xa0") == "a\n\tb\xc3\xa4 \xc2\xa0");
  const std::string replaced = "\xef\xbf\xbd";
  CHECK(without_control("\x1b[2J\r\x7f") == replaced + "[2J" + replaced + replaced);
  CHECK(without_control("x\xc2\x9b\xc2\x80y") == "x" + replaced + replaced + "y");
}

TEST_CASE("the first interruption is noticed, the second ends the program") {
  struct sigaction before {
  }, now{};
  ::sigaction(SIGINT, nullptr, &before);
  {
    const example::interruption interruption;
    CHECK_FALSE(interruption.is_asked_for());
    std::raise(SIGINT);
    CHECK(interruption.is_asked_for());
    ::sigaction(SIGINT, nullptr, &now);
    const bool is_default = now.sa_handler == SIG_DFL;
    CHECK(is_default);
  }
  ::sigaction(SIGINT, nullptr, &now);
  const bool is_as_before = now.sa_handler == before.sa_handler;
  CHECK(is_as_before);
  CHECK_FALSE(example::interruption().is_asked_for());
}

}  // namespace examples_chat_parts_cases
