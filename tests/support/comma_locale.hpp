// A locale that writes 1234.5 as 1.234,5, for tests of what must not depend on it.
#pragma once

#include <clocale>
#include <locale>
#include <string>

namespace mtp::testing {

/// As long as it lives, the global locale of C++ has a decimal comma and groups digits; so has that
/// of C, where the machine has such a locale.
class comma_locale {
 public:
  comma_locale()
      : old_c_(std::setlocale(LC_ALL, nullptr)),
        old_(std::locale::global(std::locale(std::locale::classic(), new comma))) {
    for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "nl_NL.UTF-8"}) {
      if (std::setlocale(LC_ALL, name) != nullptr) break;
    }
  }
  comma_locale(const comma_locale&) = delete;
  comma_locale& operator=(const comma_locale&) = delete;
  ~comma_locale() {
    std::locale::global(old_);
    std::setlocale(LC_ALL, old_c_.c_str());
  }

 private:
  struct comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
    std::string do_truename() const override { return "wahr"; }
    std::string do_falsename() const override { return "falsch"; }
  };

  std::string old_c_;
  std::locale old_;
};

}  // namespace mtp::testing
