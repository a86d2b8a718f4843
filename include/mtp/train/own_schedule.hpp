// A schedule that is a function of the step, with a name for checkpoints.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The result type of a function of the step; numbers become double. It is also double for other
/// types, which own_schedule's constructor refuses with a message.
template <class Function>
struct value_of_schedule {
  using type = double;
};
template <class Function>
requires std::is_invocable_v<const Function&, index_t>
struct value_of_schedule<Function> {
  using given = std::invoke_result_t<const Function&, index_t>;
  using type = std::conditional_t<std::is_arithmetic_v<given>, double, std::remove_cvref_t<given>>;
};

template <class Value>
inline constexpr bool is_value_of_schedule = std::is_same_v<Value, double>;
template <std::size_t N>
inline constexpr bool is_value_of_schedule<std::array<double, N>> = true;

}  // namespace detail

/// A schedule of one's own: any function of the step, counted from 0, that returns a double, or an
/// array of doubles with one for each depth.
///
///     .learning_rate = mtp::own_schedule("from 1e-3 to 0 in 1000 steps", [](mtp::index_t step) {
///       return 1e-3 * std::max(0.0, 1 - static_cast<double>(step) / 1000);
///     })
///
/// A checkpoint holds the name, and a run resumes only under the same name. Functions cannot be
/// compared: give another function, or one with other numbers, another name. The function is called
/// as const, since its result depends on the step only; copies share it.
template <class Value>
class own_schedule {
  static_assert(detail::is_value_of_schedule<Value>,
                "own_schedule: the function of the step must give a double, or a std::array of "
                "doubles with one for each depth 0 .. D");

 public:
  /// No schedule: the owner's numbers are used.
  constexpr own_schedule() noexcept = default;

  /// Throws mtp::error for a name that is empty or has characters other than printable ASCII, and
  /// for a null pointer or an empty std::function.
  template <class Function>
  own_schedule(const std::string& name, Function function) {
    static_assert(std::is_invocable_r_v<Value, const Function&, index_t>,
                  "own_schedule: expected a function of the step that can be called as const");
    check(!name.empty(), "own_schedule: expected a name, which checkpoints hold, got an empty one");
    check(std::all_of(
              name.begin(), name.end(), [](char letter) { return letter >= ' ' && letter <= '~'; }),
          "own_schedule: expected a name of printable ASCII characters, got \"",
          name,
          '"');
    if constexpr (std::is_constructible_v<Function, std::nullptr_t>) {
      check(static_cast<bool>(function),
            "own_schedule: expected a function for \"",
            name,
            "\", got none");
    }
    held_ = new holder<Function>(name, std::move(function));
  }

  /// Shares the function.
  constexpr own_schedule(const own_schedule& other) noexcept : held_(other.held_) {
    if (held_ != nullptr) {
      held_->owners.fetch_add(1, std::memory_order_relaxed);
    }
  }
  /// Takes the function and leaves the source empty.
  constexpr own_schedule(own_schedule&& other) noexcept
      : held_(std::exchange(other.held_, nullptr)) {}
  /// Shares or takes the function.
  constexpr own_schedule& operator=(own_schedule other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  /// The last copy destroys the function.
  constexpr ~own_schedule() {
    if (held_ != nullptr && held_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete held_;
    }
  }

  /// Whether there is a function.
  constexpr explicit operator bool() const { return held_ != nullptr; }
  /// The name in checkpoints. There must be a function.
  const std::string& name() const { return held_->name; }

  /// The value at step `step`, counted from 0. There must be a function. Throws mtp::error, with
  /// step and value, for a value that is negative or not finite. Exceptions of the function pass
  /// through.
  Value at(index_t step) const {
    const Value value = held_->at(step);
    if constexpr (std::is_same_v<Value, double>) {
      check(std::isfinite(value) && value >= 0,
            "own_schedule \"",
            name(),
            "\": expected a finite value of at least 0, got ",
            value,
            " at step ",
            step);
    } else {
      for (std::size_t k = 0; k < value.size(); ++k) {
        check(std::isfinite(value[k]) && value[k] >= 0,
              "own_schedule \"",
              name(),
              "\": expected a finite value of at least 0 for depth ",
              k,
              ", got ",
              value[k],
              " at step ",
              step);
      }
    }
    return value;
  }

  /// Converts to a schedule that has this function; its other members keep their defaults.
  template <class Schedule>
  requires std::same_as<decltype(Schedule::own), own_schedule>
  operator Schedule() const {
    Schedule made{};
    made.own = *this;
    return made;
  }

 private:
  struct shared {
    explicit shared(const std::string& called) : name(called) {}
    virtual ~shared() = default;
    virtual Value at(index_t step) const = 0;

    std::string name;
    std::atomic<long> owners{1};
  };

  template <class Function>
  struct holder final : shared {
    holder(const std::string& called, Function made) : shared(called), function(std::move(made)) {}
    Value at(index_t step) const override { return static_cast<Value>(function(step)); }

    Function function;
  };

  // Not std::shared_ptr, with which schedules without a function could not be constants.
  shared* held_ = nullptr;
};

/// Deduces the result type of the function.
template <class Function>
own_schedule(const char*, Function)
    -> own_schedule<typename detail::value_of_schedule<Function>::type>;
/// Deduces the result type of the function.
template <class Function>
own_schedule(const std::string&, Function)
    -> own_schedule<typename detail::value_of_schedule<Function>::type>;

}  // namespace mtp::inline MTP_ABI
