// Checks that markup is well formed: balanced tags, quoted attributes, no bare & or <.
#pragma once

#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace test {

/// The first fault with what follows it, or "" where there is none.
inline std::string markup_fault(std::string_view text) {
  std::vector<std::string> open;
  const auto fault = [&](std::size_t at, std::string_view what) {
    return std::string(what) + " at: " + std::string(text.substr(at, 60));
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 && byte != '\n' && byte != '\t') return fault(i, "a control character");
    if (text[i] == '>') return fault(i, "a bare >");
    if (text[i] == '&') {
      const std::size_t end = text.find(';', i);
      if (end == text.npos || end > i + 6) return fault(i, "a bare &");
    }
    if (text[i] != '<') {
      ++i;
      continue;
    }
    const std::size_t begin = i++;
    if (text.substr(i).starts_with("!DOCTYPE")) {
      i = text.find('>', i) + 1;
      continue;
    }
    const bool closes = i < text.size() && text[i] == '/';
    if (closes) ++i;
    std::string name;
    while (i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0)
      name += text[i++];
    if (name.empty()) return fault(begin, "a bare <");
    bool empty = name == "meta";
    while (i < text.size() && text[i] != '>') {
      if (text[i] == '<') return fault(begin, "an unfinished tag");
      if (text[i] == '/') empty = true;
      if (text[i] == '=') {
        if (i + 1 >= text.size() || text[i + 1] != '"')
          return fault(begin, "an unquoted attribute");
        const std::size_t end = text.find('"', i + 2);
        if (end == text.npos) return fault(begin, "an unfinished attribute");
        if (text.substr(i, end - i).find('<') != text.npos)
          return fault(begin, "< in an attribute");
        i = end;
      }
      ++i;
    }
    if (i >= text.size()) return fault(begin, "an unfinished tag");
    ++i;
    if (closes) {
      if (open.empty() || open.back() != name)
        return fault(begin, "a closing tag that closes nothing");
      open.pop_back();
    } else if (!empty) {
      open.push_back(name);
      if (name == "style") {  // its content is CSS
        i = text.find("</style>", i);
        if (i == text.npos) return fault(begin, "an unfinished tag");
      }
    }
  }
  return open.empty() ? std::string() : "not closed: " + open.back();
}

inline std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t i = 0; (i = text.find(part, i)) != text.npos; i += part.size()) ++found;
  return found;
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

}  // namespace test
