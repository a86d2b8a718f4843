// Offsets of a model's parameters in one flat array.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI {

/// The role of a parameter, which determines its initial value and whether it decays.
enum class parameter_role {
  matrix,        ///< weight of a linear map: starts random, decays
  residual,      ///< weight of a linear map that writes into the residual stream: starts smaller
  embedding,     ///< embedding table
  zero,          ///< weight of a linear map that starts as zero
  norm,          ///< scale of a norm: starts as one, does not decay
  bias,          ///< starts as zero, does not decay
  routing_bias,  ///< of a router (ops/route.hpp): starts as zero, does not decay, and has no
                 ///< gradient: a backward pass adds to its place how many rows each expert got
};

/// What reads a matrix. A quantized_model has in 8 bits what linear maps read, and numbers in FP8
/// of a checkpoint also where heads read them.
enum class parameter_use {
  linear_map,        ///< linear maps as a whole (ops/linear.hpp), or as parts of experts
  elements,          ///< something else, which needs elements
  heads,             ///< head_linear_forward
  transposed_heads,  ///< head_linear_backward_input
};

/// How the ranks of a model with a tensor_parallel_size divide a parameter.
enum class parameter_division {
  none,     ///< every rank has all of it
  rows,     ///< a rank has some of the outputs: of a vector, some of its elements
  columns,  ///< a rank has some of the inputs
};

/// A parameter as a place in an array of all parameters. The place is the same for values,
/// gradients and moments.
struct parameter {
  index_t offset = 0;                             ///< of the first element
  index_t outputs = 0;                            ///< rows; the length of a vector
  index_t inputs = 0;                             ///< columns; 0 for a vector
  index_t storage = 0;                            ///< elements occupied, padding included
  parameter_role role = parameter_role::matrix;   ///< how it starts, and whether it decays
  parameter_use use = parameter_use::linear_map;  ///< what reads it while decoding, if a matrix
  parameter_division division = parameter_division::none;  ///< what a rank has of it
  /// Of one that is divided by rows: the lengths of its pieces, each of which is divided evenly.
  std::array<index_t, 3> pieces{};

  /// The same parameter, read by something else than linear maps.
  constexpr parameter read_by(parameter_use reader) const {
    parameter kept = *this;
    kept.use = reader;
    return kept;
  }
  /// The same parameter, in elements everywhere.
  constexpr parameter in_elements() const { return read_by(parameter_use::elements); }

  /// The same parameter, divided by rows: its pieces are one behind the other, such as queries,
  /// keys and values.
  constexpr parameter by_rows(index_t first, index_t second = 0, index_t third = 0) const {
    parameter divided = *this;
    divided.division = parameter_division::rows;
    divided.pieces = {first, second, third};
    return divided;
  }
  /// The same parameter, divided by columns.
  constexpr parameter by_columns() const {
    parameter divided = *this;
    divided.division = parameter_division::columns;
    return divided;
  }

  /// Whether the configuration has this parameter.
  constexpr bool exists() const { return storage > 0; }
  /// Whether it is a vector rather than a matrix.
  constexpr bool is_vector() const { return inputs == 0; }
  /// Whether weights in this format may take its place.
  constexpr bool fits(quantized_format format) const {
    const bool by_maps = use == parameter_use::linear_map;
    switch (format) {
      case quantized_format::int8:
        return !is_vector() && by_maps;
      case quantized_format::e4m3:
        return !is_vector() && (by_maps || use == parameter_use::heads);
      default:
        return !is_vector() && use == parameter_use::transposed_heads;
    }
  }
  /// Whether weight decay applies; it does not to norms and biases.
  constexpr bool decays() const {
    return role != parameter_role::norm && role != parameter_role::bias &&
           role != parameter_role::routing_bias;
  }
  /// Elements without padding.
  constexpr index_t count() const { return outputs * (is_vector() ? 1 : inputs); }
};

/// Elements of a model's array that a process has one after the other in an array of its own.
struct parameter_range {
  index_t begin = 0;  ///< the first of them, in the layout of the model
  index_t local = 0;  ///< the same, in the array of the process
  index_t count = 0;  ///< how many

  /// Whether an offset of the model's layout is among them.
  constexpr bool has(index_t offset) const { return offset >= begin && offset < begin + count; }
};

/// Places parameters one after the other, each at a multiple of 64 bytes, a cache line.
template <class Backend, scalar S>
class parameter_cursor {
 public:
  /// Starts at `offset`, which another cursor returned.
  constexpr explicit parameter_cursor(index_t offset = 0) : offset_(offset) {}

  /// The next place, for a matrix [outputs, inputs].
  constexpr parameter matrix(index_t outputs,
                             index_t inputs,
                             parameter_role role = parameter_role::matrix) {
    return place(outputs,
                 inputs,
                 backend_traits<Backend>::template weight_storage<S>(outputs, inputs),
                 role);
  }
  /// The next place, for a vector [size].
  constexpr parameter vector(index_t size, parameter_role role) {
    // As long as the storage of a weight with one input, because operations on padded columns read
    // that far.
    return place(size, 0, backend_traits<Backend>::template weight_storage<S>(size, 1), role);
  }
  /// Skips `elements` elements that are placed elsewhere.
  constexpr void skip(index_t elements) { offset_ += elements; }
  /// Elements placed so far, with padding.
  constexpr index_t offset() const { return offset_; }

 private:
  constexpr parameter place(index_t outputs, index_t inputs, index_t storage, parameter_role role) {
    const parameter placed{offset_, outputs, inputs, storage, role};
    offset_ += round_up(storage, 64 / static_cast<index_t>(sizeof(S)));
    return placed;
  }

  index_t offset_;
};

/// Where a parameter of a quantized_model is: in an array of elements, in one of weights in 8 bits
/// (ops/quantize.hpp), or in both.
struct parameter_place {
  index_t offset = 0;                                ///< parameter::offset of the parameter
  index_t elements = -1;                             ///< its first element; -1: it has none
  index_t quantized = -1;                            ///< its first byte; -1: it is not quantized
  quantized_format format = quantized_format::int8;  ///< of its bytes
};

/// Parameters bound to an array: values, gradients, or moments.
template <class Element, class Backend>
class parameter_array {
 public:
  /// `count` elements at `data`; model_layout::storage is their number.
  parameter_array(Element* data, index_t count) : data_(data), count_(count) {}
  /// Elements and weights in 8 bits; the places, in the order of offsets, outlive the array.
  parameter_array(Element* data,
                  index_t count,
                  const std::byte* quantized,
                  std::span<const parameter_place> places) requires(std::is_const_v<Element>)
      : data_(data), count_(count), quantized_(quantized), places_(places) {}

  /// A parameter that is a matrix.  [p.outputs, p.inputs]
  weight_view<Element, Backend> matrix(const parameter& p) const {
    if constexpr (std::is_const_v<Element>) {
      if (!places_.empty()) {
        const parameter_place& at = place(p);
        return {elements(p),
                p.outputs,
                p.inputs,
                at.quantized < 0 ? nullptr : quantized_ + at.quantized,
                at.format};
      }
    }
    return {data_ + p.offset, p.outputs, p.inputs};
  }
  /// A parameter that is a vector.  [p.outputs]
  vector_view<Element, Backend> vector(const parameter& p) const {
    return {elements(p), dims<1>{p.outputs}};
  }
  /// All elements of a parameter, with padding. [p.storage]
  vector_view<Element, Backend> storage(const parameter& p) const {
    return {elements(p), dims<1>{p.storage}};
  }
  /// The first element; null means "not wanted".
  Element* data() const { return data_; }
  /// Number of elements, with padding.
  index_t count() const { return count_; }

 private:
  const parameter_place& place(const parameter& p) const {
    return *std::lower_bound(
        places_.begin(), places_.end(), p.offset, [](const parameter_place& at, index_t offset) {
          return at.offset < offset;
        });
  }
  /// The first element of a parameter; null where it has none.
  Element* elements(const parameter& p) const {
    if (places_.empty()) {
      return data_ + p.offset;
    }
    const index_t first = place(p).elements;
    return first < 0 ? nullptr : data_ + first;
  }

  Element* data_;
  index_t count_;
  const std::byte* quantized_ = nullptr;
  std::span<const parameter_place> places_{};
};

}  // namespace mtp::inline MTP_ABI
