// Weights of linear maps: matrices whose storage the backend defines.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// A weight W[outputs, inputs] in the layout that its backend's products use. Padding, where the
/// layout has any, is zero and stays zero under every operation. Optimizers treat the storage as a
/// flat array; checkpoints address elements by weight_offset, row by row.
template <class Element, class Backend>
struct weight_view {
  Element* data = nullptr;  ///< storage() elements
  index_t outputs = 0;      ///< rows
  index_t inputs = 0;       ///< columns
  /// The same weight in 8 bits (ops/quantize.hpp): linear maps read it in place of `data`, which is
  /// then null unless something else reads the weight. Null: there is none.
  const std::byte* quantized = nullptr;

  /// No weight; as an argument it means "not wanted".
  weight_view() = default;
  /// A weight of `rows` outputs and `columns` inputs at `storage`.
  weight_view(Element* storage, index_t rows, index_t columns)
      : data(storage), outputs(rows), inputs(columns) {}
  /// A weight in 8 bits at `bytes`, for inference; `storage` may be null.
  weight_view(Element* storage,
              index_t rows,
              index_t columns,
              const std::byte* bytes) requires(std::is_const_v<Element>)
      : data(storage), outputs(rows), inputs(columns), quantized(bytes) {}

  /// Adds const.
  template <class Other>
  requires(std::convertible_to<Other (*)[], Element (*)[]>)
      weight_view(const weight_view<Other, Backend>& other)
      : data(other.data),
        outputs(other.outputs),
        inputs(other.inputs),
        quantized(other.quantized) {}

  /// Elements of storage, padding included.
  index_t storage() const {
    return backend_traits<Backend>::template weight_storage<std::remove_const_t<Element>>(outputs,
                                                                                          inputs);
  }

  /// Element (output, input); for memory of the host.
  Element& operator()(index_t output, index_t input) const {
    return data[backend_traits<Backend>::template weight_offset<std::remove_const_t<Element>>(
        output, input, outputs, inputs)];
  }
};

}  // namespace mtp::inline MTP_ABI
