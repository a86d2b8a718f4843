// Weights between guard zones: from rows, and back to rows.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp/core/weight.hpp"
#include "support/guard.hpp"
#include "support/reference/array.hpp"

namespace mtp::test {

/// A weight W[outputs, inputs] in the layout of the backend; padding starts as zero.
template <class S, class Backend>
class guarded_weight {
 public:
  /// From elements in row-major order.
  guarded_weight(index_t outputs, index_t inputs, const std::vector<double>& rows)
      : outputs_(outputs),
        inputs_(inputs),
        storage_(dims<1>{backend_traits<Backend>::template weight_storage<S>(outputs, inputs)}) {
    check(static_cast<index_t>(rows.size()) == outputs * inputs,
          "guarded_weight: expected ",
          outputs * inputs,
          " elements, got ",
          rows.size());
    std::vector<double> stored(static_cast<std::size_t>(storage_.view().count()), 0.0);
    for (index_t n = 0; n < outputs; ++n) {
      for (index_t k = 0; k < inputs; ++k) {
        stored[offset(n, k)] = rows[static_cast<std::size_t>(n * inputs + k)];
      }
    }
    storage_.set(stored);
  }

  weight_view<S, Backend> view() { return {storage_.view().data(), outputs_, inputs_}; }
  /// The storage as optimizers see it.
  std::vector<S> storage() const { return elements(storage_.view()); }

  /// The elements without padding.
  reference::array<2> rows() const {
    reference::array<2> result({outputs_, inputs_});
    for (index_t n = 0; n < outputs_; ++n) {
      for (index_t k = 0; k < inputs_; ++k) {
        result(n, k) = static_cast<double>(storage_.view().data()[offset(n, k)]);
      }
    }
    return result;
  }

  bool padding_is_zero() const {
    std::vector<bool> element(static_cast<std::size_t>(storage_.view().count()), false);
    for (index_t n = 0; n < outputs_; ++n) {
      for (index_t k = 0; k < inputs_; ++k) {
        element[offset(n, k)] = true;
      }
    }
    for (std::size_t i = 0; i < element.size(); ++i) {
      if (!element[i] && !(storage_.view().data()[i] == static_cast<S>(0.0f))) {
        return false;
      }
    }
    return true;
  }

  bool intact() const { return storage_.intact(); }
  bool untouched() const { return storage_.untouched(); }

 private:
  std::size_t offset(index_t n, index_t k) const {
    return static_cast<std::size_t>(
        backend_traits<Backend>::template weight_offset<S>(n, k, outputs_, inputs_));
  }

  index_t outputs_;
  index_t inputs_;
  guarded<S, 1, Backend> storage_;
};

}  // namespace mtp::test
