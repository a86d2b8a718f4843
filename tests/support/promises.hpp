// Promises that every operation keeps: the same bits for any number of threads, and errors that
// name it.
#pragma once

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/error.hpp"
#include "support/compare.hpp"

namespace mtp::test {

/// run(context) returns the elements of its outputs; they must be the same bits for 1 to 4 threads.
template <class Run>
comparison same_for_all_threads(const Run& run) {
  cpu_context one({.threads = 1});
  const auto expected = run(one);
  comparison result;
  for (int threads = 2; threads <= 4; ++threads) {
    cpu_context several({.threads = threads});
    result = same_bits(run(several), expected);
    if (!result) {
      result.message = std::to_string(threads) + " threads: " + result.message;
      break;
    }
  }
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
