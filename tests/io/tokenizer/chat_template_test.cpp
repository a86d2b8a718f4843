#include "mtp/io/tokenizer/chat_template.hpp"

#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/tokenizer/train_tokenizer.hpp"
#include "support/places.hpp"

namespace mtp::test::io_tokenizer_chat_template_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;
using names = std::vector<std::pair<std::string, std::string>>;

/// What a template makes without messages.
std::string made(const std::string& source) {
  return chat_template(source).render({}).bytes();
}
std::string refused(const std::string& source) {
  return refusal([&] { made(source); });
}

#define CHECK_TEMPLATE_REFUSED(source, part)                           \
  do {                                                                 \
    const std::string text_ = refused(source);                         \
    CHECK_MESSAGE(contains(text_, part), "the text is '", text_, "'"); \
  } while (false)

/// Bytes as tokens, with a merge and two special tokens behind them.
tokenizer marked_tokenizer() {
  tokenizer_model model = train_tokenizer("ababab \n\n\n\n", 258, {}).model();
  for (const std::string content : {"<|end|>", "<|end|>>"}) {
    model.added.push_back({.id = static_cast<mtp::token_t>(model.tokens.size()),
                           .content = content,
                           .special = true});
    model.tokens.push_back(content);
  }
  return tokenizer(std::move(model));
}

}  // namespace

// ---- against Python's Jinja ---------------------------------------------------------------------

TEST_CASE("chats are those of Python's Jinja") {
  const auto folder = mtp::test::golden_folder() / "chat";
  const auto cases = nlohmann::ordered_json::parse(content(folder / "cases.json"));
  std::map<std::string, int> seen;
  for (const auto& each : cases) {
    const std::string name = each.at("template");
    CAPTURE(name);
    CAPTURE(each.dump());
    const chat_template source(content(folder / (name + ".jinja")),
                               {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    std::vector<chat_message> messages;
    for (const auto& message : each.at("messages"))
      messages.push_back({message.at("role"), message.at("content")});
    chat_options options;
    options.more = each.at("more");
    if (options.more.contains("add_generation_prompt")) {
      options.add_generation_prompt = options.more.at("add_generation_prompt");
      options.more.erase("add_generation_prompt");
    }
    std::string text;
    const std::string message = refusal([&] { text = source.render(messages, options).bytes(); });
    CHECK(message.empty() == each.at("text").is_string());
    if (each.at("text").is_string()) {
      CHECK(text == each.at("text").get<std::string>());
    }
    ++seen[name];
  }
  CHECK(seen.size() == 7);
}

// ---- what Jinja has and this does not -----------------------------------------------------------

TEST_CASE("what a template lacks here is refused by its name and line") {
  CHECK_TEMPLATE_REFUSED("a\n{% macro f(x) %}{% endmacro %}",
                         "line 2: {% macro %} is not supported");
  CHECK_TEMPLATE_REFUSED("{% include 'x' %}", "{% include %} is not supported");
  CHECK_TEMPLATE_REFUSED("{% raw %}{% endraw %}", "{% raw %} is not supported");
  CHECK_TEMPLATE_REFUSED("{{ 2 ** 3 }}", "the operator ** is not supported");
  CHECK_TEMPLATE_REFUSED("{{ 1 < 2 < 3 }}", "chains of comparisons are not supported");
  CHECK_TEMPLATE_REFUSED("{% for x in [] recursive %}{% endfor %}",
                         "recursive loops are not supported");
  CHECK_TEMPLATE_REFUSED("\n\n{{ [1]|sum }}", "line 3: the filter 'sum' is not supported");
  CHECK_TEMPLATE_REFUSED("{{ 1 is prime }}", "the test 'prime' is not supported");
  CHECK_TEMPLATE_REFUSED("{{ 'a'.zfill(3) }}", "has no supported method 'zfill'");
  CHECK_TEMPLATE_REFUSED("{{ strftime_now('%d') }}",
                         "the function 'strftime_now' is not supported");
  CHECK_TEMPLATE_REFUSED("{{ 'x'|tojson(sort_keys=true) }}",
                         "the argument sort_keys is not supported");
  CHECK_TEMPLATE_REFUSED("{{ '\\101' }}", "octal escapes are not supported");
  CHECK_TEMPLATE_REFUSED("{{ '\xc3\xa4'|upper }}", "for ASCII alone");
  CHECK_TEMPLATE_REFUSED("{{ {'a': 1} }}", "expected a text or a number to write, got a mapping");
  CHECK_TEMPLATE_REFUSED("{{ 'a'(1) }}", "only functions with a name can be called");
}

TEST_CASE("what is no template is refused with its line") {
  CHECK_TEMPLATE_REFUSED("a\n{% if true %}", "expected {% endif %}, got the end of the template");
  CHECK_TEMPLATE_REFUSED("{% endif %}", "{% endif %} is not supported");
  CHECK_TEMPLATE_REFUSED("{% for x [] %}{% endfor %}", "expected 'in', got '['");
  CHECK_TEMPLATE_REFUSED("{{ 1", "expected '}}', got the end of the template");
  CHECK_TEMPLATE_REFUSED("{{ 1 %}", "'}' closes nothing");
  CHECK_TEMPLATE_REFUSED("{{ (1 }}", "'}' closes nothing");
  CHECK_TEMPLATE_REFUSED("{{ }}", "expected an expression, got the end of the tag");
  CHECK_TEMPLATE_REFUSED("{{ 1) }}", "')' closes nothing");
  CHECK_TEMPLATE_REFUSED("{{ 'a }}", "a text that begins on line 1 has no end");
  CHECK_TEMPLATE_REFUSED("{# a", "a comment has no end");
  CHECK_TEMPLATE_REFUSED("{{ ? }}", "expected an expression, got '?'");
  CHECK_TEMPLATE_REFUSED("{{ 1 2 }}", "expected '}}', got '2'");
  CHECK_TEMPLATE_REFUSED("{{ '\\ud800' }}", "is no character");
  CHECK_TEMPLATE_REFUSED("{{ '\\xg0' }}", "expected 2 digits");
  CHECK_TEMPLATE_REFUSED("{{ 99999999999999999999 }}", "at most 18 digits");
  CHECK_TEMPLATE_REFUSED("{{ 1e5 }}", "expected a number");
  CHECK_TEMPLATE_REFUSED("{{ a[] }}", "expected an index");
  CHECK_TEMPLATE_REFUSED("{% break %}", "stands outside of a loop");
  CHECK_TEMPLATE_REFUSED("{% set a, b %}", "expected '='");
  CHECK_TEMPLATE_REFUSED("{{ f(a=1, 2) }}", "stands behind one with a name");
  CHECK_TEMPLATE_REFUSED("{{ " + std::string(1000, '(') + std::string(1000, ')') + " }}",
                         "nesting of at most 100");
  CHECK_TEMPLATE_REFUSED("{{ " + std::string(1000, '-') + "1 }}", "nesting of at most 100");
  std::string deep, nots;
  for (int i = 0; i < 1000; ++i) {
    deep += "{% if a %}";
    nots += "not ";
  }
  CHECK_TEMPLATE_REFUSED(deep, "nesting of at most 100");
  CHECK_TEMPLATE_REFUSED("{{ " + nots + "a }}", "nesting of at most 100");
  for (const std::string link :
       {"+a", ".a", "[0]", "|a", " is a", " if a", " and a"}) {  // a tree on one side
    std::string chain = "a";
    for (int i = 0; i < 100'000; ++i) chain += link;
    CHECK_TEMPLATE_REFUSED("{{ " + chain + " }}", "nesting of at most 400");
  }
  CHECK_TEMPLATE_REFUSED(std::string((1 << 20) + 1, 'a'), "expected at most 1048576 bytes");
}

TEST_CASE("what Python refuses while a template runs is refused with the line") {
  CHECK_TEMPLATE_REFUSED("\n{{ a.b }}", "line 2: 'a' is undefined, so it has no member 'b'");
  CHECK_TEMPLATE_REFUSED("{{ a['b'] }}", "'a' is undefined");
  CHECK_TEMPLATE_REFUSED(
      "{{ 'a' + 1 }}", "expected two numbers, texts or lists for +, got a text and a whole number");
  CHECK_TEMPLATE_REFUSED("{{ 1 // 0 }}", "a number is divided by 0");
  CHECK_TEMPLATE_REFUSED("{{ 1 < 'a' }}", "expected two numbers or two texts");
  CHECK_TEMPLATE_REFUSED("{{ 'a' in 1 }}", "expected a sequence behind 'in'");
  CHECK_TEMPLATE_REFUSED("{% for x in none %}{% endfor %}", "expected a sequence, got None");
  CHECK_TEMPLATE_REFUSED("{% for a, b in [[1]] %}{% endfor %}", "expected 2 values, got 1");
  CHECK_TEMPLATE_REFUSED("{% set a = {} %}{% set a.b = 1 %}",
                         "expected a namespace in front of .b, got a mapping");
  CHECK_TEMPLATE_REFUSED("{{ [1][::0] }}", "the step of a slice is 0");
  CHECK_TEMPLATE_REFUSED("{{ 'a'.split('') }}", "expected a text that is not empty");
  CHECK_TEMPLATE_REFUSED("{{ namespace|tojson }}", "expected a value of JSON, got a function");
  CHECK_TEMPLATE_REFUSED("{% set a = 1 %}{{ a() }}", "'a' is no function");
  CHECK_TEMPLATE_REFUSED("{{ raise_exception('No.') }}", "the template refuses this: No.");
  CHECK_TEMPLATE_REFUSED("{{ 9223372036854775 * 99999 }}", "needs more than 64 bits");
}

TEST_CASE("a template that would run or grow without end is refused") {
  CHECK_TEMPLATE_REFUSED(
      "{% set r = range(50000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
      "takes more than 2000000 steps");
  CHECK_TEMPLATE_REFUSED(
      "{% set n = namespace(t='aaaaaaaa') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% "
      "endfor %}",
      "a text has more than 67108864 bytes");
  CHECK_TEMPLATE_REFUSED(
      "{% set n = namespace(t=[1]) %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
      "a list has more than 1048576 elements");
  CHECK_TEMPLATE_REFUSED("{{ range(1000000000) }}", "range: expected numbers up to 100000");
  CHECK_TEMPLATE_REFUSED(
      "{% set n = namespace(t=[1]) %}{% for i in range(70) %}{% set n.t = [n.t] %}{% endfor %}{{ "
      "n.t|tojson }}",
      "nesting of less than 64");
}

TEST_CASE("variables of a loop are gone behind it and members of a namespace stay") {
  CHECK(made("{% set x = 1 %}{% for i in [2] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}{{ i is "
             "defined }}") == "21False");
  CHECK(
      made(
          "{% set n = namespace(x=1) %}{% for i in [2] %}{% set n.x = i %}{% endfor %}{{ n.x }}") ==
      "2");
  CHECK(made("{% if true %}{% set x = 1 %}{% endif %}{{ x }}") == "1");
  CHECK(made("{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.index }}{% if j == 1 %}{% continue "
             "%}{% endif %}{% break %}{% endfor %}{{ loop.last }}{% endfor %}") == "12False12True");
}

// ---- messages are no marks ----------------------------------------------------------------------

TEST_CASE("a special token of a template is one and the same text of a message is none") {
  const tokenizer tokens = marked_tokenizer();
  const auto encoded =
      [&](const std::string& source, const std::string& content, const chat_options& options = {}) {
        const std::vector<chat_message> messages{{"user", content}};
        return encode_chat(
            tokens, chat_template(source, {{"eos_token", "<|end|>"}}).render(messages, options));
      };
  const auto bytes = [&](const std::string& text) { return tokens.encode(text); };
  const auto joined = [](std::vector<mtp::token_t> a, const std::vector<mtp::token_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  const std::vector<mtp::token_t> end{258};
  CHECK(encoded("{{ messages[0].content }}<|end|>", "ab") == joined(bytes("ab"), end));
  CHECK(encoded("{{ messages[0].content }}", "ab<|end|>") == bytes("ab<|end|>"));
  CHECK(encoded("{{ messages[0].content }}<|end|>", "<|end|>") == joined(bytes("<|end|>"), end));
  CHECK(encoded("{{ eos_token + messages[0].content }}", "a") == joined(end, bytes("a")));
  CHECK(encoded("<|end|>>", "") == std::vector<mtp::token_t>{259});  // the longest

  // Neither the one nor the other can make half a mark.
  CHECK(encoded("{{ messages[0].content }}end|>", "<|") == bytes("<|end|>"));
  CHECK(encoded("<|{{ messages[0].content }}|>", "end") == bytes("<|end|>"));
  CHECK(encoded("<|end|>{{ messages[0].content }}", ">") == joined(end, bytes(">")));
  CHECK(encoded("<|{{ messages[0].role }}|>", "") == bytes("<|user|>"));

  // However it is taken apart and put together.
  for (const std::string expression : {"m|trim",
                                       "m.strip('x')",
                                       "m.split('y')|join('')",
                                       "m.replace('<', '<')",
                                       "m[0:]",
                                       "m[::-1][::-1]",
                                       "m|list|join",
                                       "m|tojson",
                                       "[m]|tojson",
                                       "{'k': m}|tojson(indent=2)",
                                       "m ~ ''",
                                       "'' + m",
                                       "m|lower",
                                       "messages|map(attribute='content')|first",
                                       "messages[0]|tojson",
                                       "(m, 1)[0]",
                                       "m|string",
                                       "m or ''",
                                       "messages[0].items()|last|last",
                                       "messages[0].values()|last",
                                       "m if m else ''",
                                       "m|default('')"}) {
    CAPTURE(expression);
    const auto found =
        encoded("{% set m = messages[0].content %}{{ " + expression + " }}", "<|end|>");
    CHECK(std::count(found.begin(), found.end(), 258) == 0);
    CHECK(contains(tokens.decode(found), "<|end|>"));
  }
  const auto by_character =
      encoded("{% for c in messages[0].content %}{{ c }}{% endfor %}", "<|end|>");
  CHECK(by_character == bytes("<|end|>"));
  CHECK(encoded("{% set x %}{{ messages[0].content }}{% endset %}{{ x }}", "<|end|>") ==
        bytes("<|end|>"));

  // Neither can keys and values of other names.
  chat_options options;
  options.more = {{"tools", {{{"<|end|>", "<|end|>"}}}}};
  const auto with_tools =
      encoded("{{ tools|tojson }}{% for k, v in tools[0].items() %}{{ k }}{{ v }}{% endfor %}",
              "",
              options);
  CHECK(std::count(with_tools.begin(), with_tools.end(), 258) == 0);
}

TEST_CASE("pieces of a text reach across the borders of messages") {
  const tokenizer tokens = marked_tokenizer();
  const std::vector<chat_message> messages{{"user", "b\nab"}};
  const auto text = chat_template("a{{ messages[0].content }}").render(messages);
  CHECK(encode_chat(tokens, text) == tokens.encode("ab\nab"));
  CHECK(tokens.encode("ab").size() == 1);
}

TEST_CASE("roles that could be marks and names that are taken are refused") {
  const chat_template source("{{ messages[0].role }}");
  for (const std::string role : {"", "<|end|>", "User", "a b", "user\n"}) {
    const std::vector<chat_message> messages{{role, "a"}};
    CHECK(contains(refusal([&] { source.render(messages); }),
                   "expected roles of lower case letters"));
  }
  chat_options options;
  options.more = {{"messages", 1}};
  CHECK(contains(refusal([&] { source.render({}, options); }), "the name messages is taken"));
  options.more = {{"most", std::uint64_t{1} << 63},
                  {"least", std::numeric_limits<std::int64_t>::min()}};
  CHECK(chat_template("{{ most }} {{ least }}").render({}, options).bytes() ==
        "9.223372036854776e+18 -9223372036854775808");
  options.more = nlohmann::ordered_json::array();
  CHECK(contains(refusal([&] { source.render({}, options); }), "expected an object of more names"));
}

TEST_CASE("special tokens that take white space are refused in chats") {
  tokenizer_model model = marked_tokenizer().model();
  model.added.back().lstrip = true;
  const tokenizer tokens(std::move(model));
  CHECK(contains(refusal([&] { encode_chat(tokens, chat_text("a")); }), "takes white space"));
}

// ---- files --------------------------------------------------------------------------------------

TEST_CASE("a folder's template is read with the texts of its tokens") {
  const scratch_directory scratch;
  CHECK(!read_chat_template(scratch.path()).has_value());
  const auto text = [&] { return read_chat_template(scratch.path())->render({}).bytes(); };
  put(scratch / "tokenizer_config.json", R"({"bos_token": null})");
  CHECK(!read_chat_template(scratch.path()).has_value());
  put(scratch / "tokenizer_config.json",
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ bos_token }}a{{ eos_token }}"})");
  CHECK(text() == "<s>a</s>");
  put(scratch / "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "c"}]})");
  CHECK(text() == "c");
  put(scratch / "chat_template.jinja", "d");
  CHECK(text() == "d");
  put(scratch / "chat_template.jinja", "{{");
  CHECK(contains(refusal(text), (scratch / "chat_template.jinja").string()));
  std::filesystem::remove(scratch / "chat_template.jinja");
  put(scratch / "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "b"}]})");
  CHECK(contains(refusal(text), "expected a text, or a list with a default"));
  put(scratch / "tokenizer_config.json", R"({"chat_template": [{"name": 1, "template": "b"}, 2]})");
  CHECK(contains(refusal(text), "expected a text, or a list with a default"));
  put(scratch / "tokenizer_config.json", R"({"bos_token": 1, "chat_template": "a"})");
  CHECK(contains(refusal(text), "bos_token: expected a text"));
}

}  // namespace mtp::test::io_tokenizer_chat_template_cases
