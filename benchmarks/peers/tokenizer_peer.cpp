// Encodes on command with a tokenizer.json, so that encode.py can time it beside the Python
// package, and tests/golden/fuzz_tokenizers.py compare their tokens. Reads commands line by line:
//
//   text FILE   reads a text; prints its bytes
//   time        encodes the text, line by line; prints seconds and tokens
//   encode HEX  prints the tokens of these bytes; special tokens are parsed
//   decode IDS  prints the bytes of tokens, in hex
//   quit
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/io/tokenizer/tokenizer_json.hpp"

namespace mtp::bench {
namespace {

std::string of_hex(const std::string& digits) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::size_t bytes = end == std::string_view::npos ? text.size() : end + 1;
    lines.push_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return lines;
}

void print(const std::vector<token_t>& tokens) {
  for (const token_t token : tokens) std::printf("%d ", token);
  std::puts("");
}

void serve(const io::tokenizer& tokenizer) {
  std::string text;
  std::vector<token_t> tokens;
  io::token_encoder encoder(tokenizer);
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string command, argument;
    words >> command >> argument;
    if (command == "text") {
      std::ifstream file(argument, std::ios::binary);
      text.assign(std::istreambuf_iterator<char>(file), {});
      std::printf("%zu\n", text.size());
    } else if (command == "time") {
      tokens.clear();
      const auto begin = std::chrono::steady_clock::now();
      for (const std::string_view each : lines_of(text)) {
        encoder.encode(each, tokens, {.parse_special = true});
      }
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      std::printf("%.6f %zu\n", seconds.count(), tokens.size());
    } else if (command == "encode") {
      tokens.clear();
      encoder.encode(of_hex(argument), tokens, {.parse_special = true});
      print(tokens);
    } else if (command == "decode") {
      tokens.clear();
      if (!argument.empty()) tokens.push_back(std::stoi(argument));
      for (token_t token = 0; words >> token;) tokens.push_back(token);
      for (const char byte : tokenizer.decode(tokens)) {
        std::printf("%02x", static_cast<unsigned char>(byte));
      }
      std::puts("");
    } else {
      std::fprintf(stderr, "tokenizer_peer: cannot %s\n", line.c_str());
      return;
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace mtp::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_peer TOKENIZER_JSON\n");
    return 2;
  }
  try {
    mtp::bench::serve(mtp::io::read_tokenizer(argv[1]));
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "tokenizer_peer: %s\n", fault.what());
    return 1;
  }
  return 0;
}
