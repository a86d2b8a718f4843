// Weights of linear maps: matrices whose storage the backend defines.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// What the bytes of a weight in 8 bits are; ops/quantize.hpp has the formulas.
enum class quantized_format : unsigned char {
  int8,             ///< integers, which quantize_weight makes of elements
  e4m3,             ///< numbers of FP8 as files hold them, which set_e4m3_output places
  e4m3_transposed,  ///< the same, each 128 outputs transposed: only head_linear_backward_input
                    ///< reads it
};

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
  quantized_format format = quantized_format::int8;  ///< of these bytes

  /// No weight; as an argument it means "not wanted".
  weight_view() = default;
  /// A weight of `rows` outputs and `columns` inputs at `storage`.
  weight_view(Element* storage, index_t rows, index_t columns)
      : data(storage), outputs(rows), inputs(columns) {}
  /// A weight in 8 bits at `bytes`, for inference; `storage` may be null.
  weight_view(Element* storage,
              index_t rows,
              index_t columns,
              const std::byte* bytes,
              quantized_format what = quantized_format::int8) requires(std::is_const_v<Element>)
      : data(storage), outputs(rows), inputs(columns), quantized(bytes), format(what) {}

  /// Adds const.
  template <class Other>
  requires(std::convertible_to<Other (*)[], Element (*)[]>)
      weight_view(const weight_view<Other, Backend>& other)
      : data(other.data),
        outputs(other.outputs),
        inputs(other.inputs),
        quantized(other.quantized),
        format(other.format) {}

  /// Elements of storage, padding included.
  index_t storage() const {
    return backend_traits<Backend>::template weight_storage<std::remove_const_t<Element>>(outputs,
                                                                                          inputs);
  }

  /// Whether a part of a weight may begin at this output: see rows().
  static constexpr bool splits_at(index_t output) {
    using traits = backend_traits<Backend>;
    using element = std::remove_const_t<Element>;
    const index_t first = traits::template weight_offset<element>(output, 0, output + 1, 1);
    return first == traits::template weight_storage<element>(output, 1);
  }
  /// The outputs [first, first + count), a weight of its own.  [count, inputs]
  /// Throws mtp::error unless the layout lets it begin and end there (splits_at; any multiple of 64
  /// does, and the last output), and for one in e4m3_transposed.
  weight_view rows(index_t first, index_t count) const {
    check(first >= 0 && count >= 0 && first + count <= outputs && splits_at(first) &&
              (splits_at(first + count) || first + count == outputs) &&
              (quantized == nullptr || format != quantized_format::e4m3_transposed),
          "weight_view: outputs [",
          first,
          ", ",
          first + count,
          ") are not a part of a weight of ",
          outputs,
          " outputs that its layout can split off");
    using traits = backend_traits<Backend>;
    using element = std::remove_const_t<Element>;
    weight_view part = *this;
    part.outputs = count;
    if (data != nullptr) {
      part.data = data + traits::template weight_offset<element>(first, 0, outputs, inputs);
    }
    if constexpr (requires { ops_of<Backend>::quantized_weight_bytes(first, inputs, format); }) {
      if (quantized != nullptr) {
        part.quantized = quantized + ops_of<Backend>::quantized_weight_bytes(first, inputs, format);
      }
    }
    return part;
  }

  /// Element (output, input); for memory of the host.
  Element& operator()(index_t output, index_t input) const {
    return data[backend_traits<Backend>::template weight_offset<std::remove_const_t<Element>>(
        output, input, outputs, inputs)];
  }
};

}  // namespace mtp::inline MTP_ABI
