// Promises that every operation keeps: the same bits for any number of threads, and errors that
// name it.
#pragma once

#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"

namespace mtp::test {

/// run(context) returns the elements of its outputs; they must be the same bits in every way that a
/// backend can compute them: with any number of threads, in any order of a device's threads.
template <class Backend, class Run>
comparison same_in_all_ways(const Run& run) {
  comparison result;
  decltype(run(std::declval<context<Backend>&>())) expected;
  bool first = true;
  testing<Backend>::each_way([&](auto& context, const std::string& way) {
    const auto actual = run(context);
    if (first) {
      expected = actual;
      first = false;
    } else if (result) {
      result = same_bits(actual, expected);
      result.message = way + ": " + result.message;
    }
  });
  return result;
}

/// call() throws mtp::error with a message that starts with the function's name and a colon.
template <class Call>
comparison rejects(const std::string& function, const Call& call) {
  comparison result{.count = 1, .faults = 1, .ratio = HUGE_VAL, .message = {}};
  try {
    call();
    result.message = function + " threw nothing";
  } catch (const mtp::error& e) {
    result.message = std::string("\"") + e.what() + "\" does not start with \"" + function + ": \"";
    if (std::string(e.what()).rfind(function + ": ", 0) == 0) {
      result = {.count = 1, .faults = 0, .ratio = 0, .message = e.what()};
    }
  }
  return result;
}

/// Strides of a view: a braced list alone could also be a list of elements.
template <class... Strides>
std::array<index_t, sizeof...(Strides)> strides(Strides... values) {
  return {static_cast<index_t>(values)...};
}

/// One list of elements out of several.
template <class Element>
std::vector<Element> join(std::vector<Element> a, const std::vector<Element>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace mtp::test
