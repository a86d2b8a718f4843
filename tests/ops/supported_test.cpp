#include "mtp/ops/supported.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <span>
#include <string>
#include <type_traits>

#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"
#include "support/places.hpp"

namespace mtp::test {

/// A backend that computes nothing.
struct idle {};

}  // namespace mtp::test

template <>
struct mtp::backend_traits<mtp::test::idle> : mtp::test::declared_traits<mtp::test::idle, true> {
  struct ops {};
};

namespace mtp::test::supported_cases {

namespace {

using S = float;
struct identity {
  S operator()(S x) const { return x; }
  S operator()(S x, S) const { return x; }
};

using matrix = matrix_view<S, cpu>;
using in_matrix = matrix_view<const S, cpu>;
using vector = vector_view<S, cpu>;
using in_vector = vector_view<const S, cpu>;
using heads = view<S, dims<3>, cpu>;
using in_heads = view<const S, dims<3>, cpu>;
using weight = weight_view<S, cpu>;
using in_weight = weight_view<const S, cpu>;
using tokens = vector_view<token_t, cpu>;
using in_tokens = vector_view<const token_t, cpu>;
using targets = matrix_view<const token_t, cpu>;
using positions = vector_view<index_t, cpu>;
using in_positions = vector_view<const index_t, cpu>;
using cache = cache_view<S, cpu>;
using latents = latent_cache_view<S, cpu>;
using runs = std::span<const row_run>;
using text = sequence_view<cpu>;
using number = vector_view<double, cpu>;
using token_rows = matrix_view<token_t, cpu>;
using whole_rows = matrix_view<index_t, cpu>;
using in_whole_rows = matrix_view<const index_t, cpu>;
using numbers = matrix_view<double, cpu>;
using doubles = vector_view<double, cpu>;
using ranges = vector_view<const adamw_range, cpu>;
using bytes = vector_view<std::byte, cpu>;

// The argument T, changed in one respect.

template <class T, class Backend>
struct moved {
  using type = T;
};
template <class Element, class Shape, class Backend>
struct moved<view<Element, Shape, cpu>, Backend> {
  using type = view<Element, Shape, Backend>;
};
template <class Element, class Backend>
struct moved<weight_view<Element, cpu>, Backend> {
  using type = weight_view<Element, Backend>;
};
template <class Element, class Backend>
struct moved<cache_view<Element, cpu>, Backend> {
  using type = cache_view<Element, Backend>;
};
template <class Element, class Backend>
struct moved<latent_cache_view<Element, cpu>, Backend> {
  using type = latent_cache_view<Element, Backend>;
};
template <class Backend>
struct moved<sequence_view<cpu>, Backend> {
  using type = sequence_view<Backend>;
};

template <class T>
struct changed {
  using constant = void;
  using other_element = void;
  template <int>
  using ranked = void;
};
template <class Element, class Shape, class Backend>
struct changed<view<Element, Shape, Backend>> {
  using constant = view<const Element, Shape, Backend>;
  using other_element = view<char, Shape, Backend>;
  template <int Rank>
  using ranked = view<Element, dims<Rank>, Backend>;
};
template <class Element, class Backend>
struct changed<weight_view<Element, Backend>> {
  using constant = weight_view<const Element, Backend>;
  using other_element = void;
  template <int>
  using ranked = void;
};

/// The call with `First` in place of its first argument, where there is such a one.
template <class Op, class First, class... Rest>
constexpr bool holds_with() {
  if constexpr (std::is_void_v<First>) {
    return false;
  } else {
    return supported<Op, cpu, First, Rest...>;
  }
}

enum class elements { fixed, any };
/// A rank that does not fit the result: elements are broadcast to any higher one.
constexpr int lower = 0, higher = 5;

template <class Op, int WrongRank, elements Elements, class First, class... Rest>
void check_call(const std::string& name, std::set<std::string>& seen) {
  CAPTURE(name);
  CHECK(seen.insert(name).second);
  CHECK(supported<Op, cpu, First, Rest...>);
  CHECK_FALSE(supported<Op, cpu>);
  if (sizeof...(Rest) > 0) {
    CHECK_FALSE(supported<Op, cpu, First>);
  }
  CHECK_FALSE(supported<Op, cpu, First, Rest..., identity>);
  CHECK_FALSE(supported<Op, cpu, identity, Rest...>);
  CHECK_FALSE(supported<Op, host, First, Rest...>);
  CHECK_FALSE(supported<Op, cpu, typename moved<First, host>::type, Rest...>);
  CHECK_FALSE(
      supported<Op, idle, typename moved<First, idle>::type, typename moved<Rest, idle>::type...>);
  CHECK_FALSE(holds_with<Op, typename changed<First>::constant, Rest...>());
  if (WrongRank != lower || Elements != elements::any || sizeof...(Rest) != 1) {  // not fill
    CHECK_FALSE(holds_with<Op, typename changed<First>::template ranked<WrongRank>, Rest...>());
  }
  if (Elements == elements::fixed) {
    CHECK_FALSE(holds_with<Op, typename changed<First>::other_element, Rest...>());
  }
}

/// The operations that stand in the headers.
std::set<std::string> operations() {
  std::set<std::string> names;
  const std::regex begin("(^|\n)MTP_OPERATION\\(\\s*(\\w+)");
  for (const auto& entry :
       std::filesystem::directory_iterator(source_folder() / "include/mtp/ops")) {
    std::ifstream file(entry.path());
    const std::string content(std::istreambuf_iterator<char>(file), {});
    for (std::sregex_iterator at(content.begin(), content.end(), begin), end; at != end; ++at) {
      names.insert((*at)[2]);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("each operation supports a call that compiles, and none that is changed to nonsense") {
  std::set<std::string> seen;
#define CALL(name, rank, kind, ...) \
  check_call<op::name, rank, elements::kind, __VA_ARGS__>(#name, seen)
  CALL(fill, lower, any, matrix, S);
  CALL(fill_normal, higher, fixed, weight, double, random_stream);
  CALL(copy, lower, fixed, matrix, in_matrix);
  CALL(add, lower, fixed, matrix, in_matrix, in_vector);
  CALL(subtract, lower, fixed, matrix, in_matrix, matrix);
  CALL(multiply, lower, fixed, matrix, in_vector, in_matrix);
  CALL(divide, lower, fixed, matrix, in_matrix, in_matrix);
  CALL(scale, lower, fixed, matrix, in_matrix, S);
  CALL(axpy, lower, fixed, matrix, S, in_matrix);
  CALL(transform, lower, any, matrix, in_matrix, in_vector, identity);
  CALL(where, lower, fixed, matrix, targets, in_matrix, in_vector);
  CALL(broadcast_add, lower, fixed, matrix, in_matrix, in_vector);
  CALL(sum, higher, fixed, vector, in_matrix);
  CALL(mean, higher, fixed, vector, in_matrix);
  CALL(maximum, higher, fixed, vector, in_matrix);
  CALL(minimum, higher, fixed, vector, in_matrix);
  CALL(argmax, higher, fixed, tokens, in_matrix);
  CALL(softmax_forward, lower, fixed, matrix, in_matrix);
  CALL(softmax_backward, lower, fixed, matrix, in_matrix, in_matrix);
  CALL(matmul, higher, fixed, matrix, in_matrix, in_matrix);
  CALL(linear_forward, higher, fixed, matrix, in_matrix, in_weight);
  CALL(linear_bias_forward, higher, fixed, matrix, in_matrix, in_weight, in_vector);
  CALL(linear_add_forward, higher, fixed, matrix, in_matrix, in_weight, in_matrix);
  CALL(linear_backward_input, higher, fixed, matrix, in_matrix, in_weight);
  CALL(linear_add_backward_input, higher, fixed, matrix, in_matrix, in_weight, in_matrix);
  CALL(linear_backward_weight, higher, fixed, weight, in_matrix, matrix);
  CALL(linear_backward_bias, higher, fixed, vector, matrix);
  CALL(grouped_linear_forward, higher, fixed, matrix, in_matrix, in_weight, in_positions);
  CALL(grouped_linear_backward_input, higher, fixed, matrix, in_matrix, in_weight, in_positions);
  CALL(grouped_linear_backward_weight, higher, fixed, weight, in_matrix, matrix, in_positions);
  CALL(route, higher, fixed, whole_rows, matrix, matrix, in_matrix, in_vector, routing_rule);
  CALL(route_backward,
       higher,
       fixed,
       matrix,
       in_matrix,
       in_whole_rows,
       in_matrix,
       in_matrix,
       routing_rule);
  CALL(sequence_balance_backward,
       higher,
       fixed,
       matrix,
       doubles,
       in_matrix,
       in_whole_rows,
       index_t,
       double);
  CALL(group_rows, higher, fixed, positions, positions, whole_rows, in_whole_rows);
  CALL(add_group_sizes, higher, fixed, vector, in_positions);
  CALL(gather_rows, higher, fixed, matrix, in_matrix, in_positions);
  CALL(scatter_rows, higher, fixed, matrix, in_matrix, in_matrix, in_whole_rows, in_matrix);
  CALL(scatter_rows_backward,
       higher,
       fixed,
       matrix,
       matrix,
       in_matrix,
       in_matrix,
       in_whole_rows,
       in_matrix);
  CALL(rms_norm_forward, higher, fixed, heads, matrix, in_heads, in_vector, double);
  CALL(rms_norm_backward,
       higher,
       fixed,
       heads,
       vector,
       in_heads,
       in_heads,
       in_matrix,
       in_vector,
       in_heads);
  CALL(rope_forward, higher, fixed, heads, in_matrix, index_t, index_t);
  CALL(rope_backward, higher, fixed, heads, in_matrix, index_t, index_t);
  CALL(swiglu_forward, higher, fixed, matrix, in_matrix);
  CALL(swiglu_backward, higher, fixed, matrix, in_matrix, in_matrix);
  CALL(silu_residual_forward, higher, fixed, matrix, in_matrix, in_matrix);
  CALL(silu_residual_backward, higher, fixed, matrix, in_matrix, in_matrix);
  CALL(attention_forward, higher, fixed, heads, matrix, in_heads, in_heads, heads, index_t);
  CALL(attention_backward,
       higher,
       fixed,
       heads,
       heads,
       heads,
       in_heads,
       in_heads,
       in_heads,
       in_heads,
       in_heads,
       in_matrix,
       index_t);
  CALL(attention_cached_forward,
       higher,
       fixed,
       heads,
       cache,
       in_heads,
       in_heads,
       in_heads,
       in_positions,
       runs);
  CALL(rope_attention_forward,
       higher,
       fixed,
       heads,
       matrix,
       heads,
       heads,
       in_heads,
       in_matrix,
       index_t);
  CALL(rope_attention_backward,
       higher,
       fixed,
       heads,
       heads,
       heads,
       in_heads,
       in_heads,
       in_heads,
       in_heads,
       in_heads,
       in_matrix,
       in_matrix,
       index_t);
  CALL(rope_attention_cached_forward,
       higher,
       fixed,
       heads,
       cache,
       heads,
       heads,
       in_heads,
       in_matrix,
       in_positions,
       runs);
  CALL(head_linear_forward, higher, fixed, heads, in_heads, in_weight);
  CALL(head_linear_backward_input, higher, fixed, heads, in_heads, in_weight);
  CALL(latent_attention_cached_forward,
       higher,
       fixed,
       heads,
       latents,
       in_heads,
       in_matrix,
       double,
       in_positions,
       runs);
  CALL(combine_forward,
       higher,
       fixed,
       matrix,
       vector,
       vector,
       in_matrix,
       in_weight,
       in_tokens,
       in_vector,
       in_vector,
       in_weight,
       concat_order,
       double);
  CALL(combine_backward,
       higher,
       fixed,
       matrix,
       vector,
       vector,
       weight,
       weight,
       in_matrix,
       in_matrix,
       in_vector,
       in_vector,
       in_weight,
       in_tokens,
       in_vector,
       in_vector,
       in_weight,
       concat_order);
  CALL(embedding_forward, higher, fixed, matrix, in_weight, in_tokens);
  CALL(embedding_backward, higher, fixed, weight, in_matrix, in_tokens);
  CALL(sum_over_ranks, higher, fixed, vector);
  CALL(sharded_embedding_forward, higher, fixed, matrix, in_weight, in_tokens);
  CALL(sharded_embedding_backward, higher, fixed, weight, in_matrix, in_tokens);
  CALL(sharded_linear_forward, higher, fixed, matrix, in_matrix, in_weight);
  CALL(sharded_combine_forward,
       higher,
       fixed,
       matrix,
       vector,
       vector,
       in_matrix,
       in_weight,
       in_tokens,
       in_vector,
       in_vector,
       in_weight,
       concat_order,
       double);
  CALL(sharded_combine_backward,
       higher,
       fixed,
       matrix,
       vector,
       vector,
       weight,
       weight,
       in_matrix,
       in_matrix,
       in_vector,
       in_vector,
       in_weight,
       in_tokens,
       in_vector,
       in_vector,
       in_weight,
       concat_order);
  CALL(sharded_cross_entropy,
       higher,
       fixed,
       matrix,
       tokens,
       matrix,
       weight,
       in_matrix,
       in_weight,
       targets,
       in_matrix);
  CALL(sharded_cross_entropy_forward, higher, fixed, matrix, tokens, in_matrix, in_weight, targets);
  CALL(linear_cross_entropy,
       higher,
       fixed,
       matrix,
       tokens,
       matrix,
       weight,
       in_matrix,
       in_weight,
       targets,
       in_matrix);
  CALL(linear_cross_entropy_forward, higher, fixed, matrix, tokens, in_matrix, in_weight, targets);
  CALL(predict, higher, fixed, tokens, in_matrix);
  CALL(sum_of_squares, higher, fixed, number, in_vector);
  CALL(adamw_update,
       higher,
       fixed,
       vector,
       vector,
       vector,
       vector,
       in_vector,
       ranges,
       adamw_coefficients);
  CALL(quantize_weight, higher, fixed, bytes, in_weight);
  CALL(quantized_rows, higher, fixed, bytes, in_weight, in_positions);
  CALL(select_rows, higher, fixed, positions, tokens, text, index_t, index_t);
  CALL(store_rows, higher, fixed, matrix, in_matrix, in_positions);
  CALL(load_rows, higher, fixed, matrix, in_matrix, in_positions);
  CALL(append_drafts, higher, fixed, text, in_tokens, index_t);
  CALL(accept_drafts, higher, fixed, text, in_tokens, index_t);
  CALL(grow_tree,
       higher,
       fixed,
       text,
       matrix_view<const token_t, cpu>,
       matrix_view<const double, cpu>,
       draft_tree);
  CALL(accept_tree, higher, fixed, text, in_tokens, index_t);
  CALL(keep_path, higher, fixed, cache_view<float, cpu>, text, index_t);
  CALL(exclude_tokens, higher, fixed, matrix, in_tokens);
  CALL(choose_tokens, higher, fixed, tokens, in_matrix, text, index_t);
  CALL(draw_drafts, higher, fixed, tokens, whole_rows, in_matrix, text, index_t, draft_unit);
  CALL(accept_typical, higher, fixed, tokens, in_matrix, text, typical_acceptance);
  CALL(reject_drafts, higher, fixed, tokens, in_matrix, in_whole_rows, text, draft_unit);
  CALL(token_log_probabilities, higher, fixed, number, in_matrix, in_tokens);
  CALL(best_tokens, higher, fixed, token_rows, numbers, in_matrix);
#undef CALL
  const auto expected = operations();
  CHECK_FALSE(expected.empty());
  CHECK(seen == expected);
}

TEST_CASE("overloads, arguments with defaults and element types beside the first are told apart") {
  CHECK(supported<op::transform, cpu, matrix, in_matrix, identity>);
  CHECK_FALSE(supported<op::transform, cpu, matrix, in_matrix, int>);
  CHECK(supported<op::matmul, cpu, matrix, in_matrix, in_matrix, update>);
  CHECK_FALSE(supported<op::matmul, cpu, matrix, in_matrix, in_matrix, int>);
  CHECK(supported<op::rms_norm_forward, cpu, matrix, vector, in_matrix, in_vector, double>);
  CHECK_FALSE(supported<op::rms_norm_forward, cpu, matrix, matrix, in_heads, in_vector, double>);
  CHECK(supported<op::linear_forward,
                  cpu,
                  matrix,
                  matrix_view<const bf16, cpu>,
                  weight_view<const bf16, cpu>>);
  CHECK_FALSE(supported<op::linear_forward, cpu, matrix_view<bf16, cpu>, in_matrix, in_weight>);
  CHECK_FALSE(supported<op::add, cpu, matrix, in_matrix, matrix_view<const double, cpu>>);
  CHECK_FALSE(supported<op::argmax, cpu, vector, in_matrix>);
  CHECK_FALSE(supported<op::linear_backward_weight,
                        cpu,
                        weight_view<bf16, cpu>,
                        matrix_view<const bf16, cpu>,
                        matrix_view<const bf16, cpu>>);
}

TEST_CASE("static shapes that differ are not supported") {
  using y = view<S, extents<4, 8>, cpu>;
  using fits = view<const S, extents<4, 8>, cpu>;
  using wider = view<const S, extents<4, 9>, cpu>;
  using row = view<const S, extents<1, 8>, cpu>;
  CHECK(supported<op::add, cpu, y, fits, row>);
  CHECK_FALSE(supported<op::add, cpu, y, fits, wider>);
  CHECK(supported<op::scale, cpu, y, fits, S>);
  CHECK_FALSE(supported<op::scale, cpu, y, wider, S>);
  CHECK(supported<op::softmax_forward, cpu, y, in_matrix>);
  CHECK_FALSE(supported<op::softmax_forward, cpu, y, wider>);
  CHECK(supported<op::sum, cpu, view<S, extents<4>, cpu>, wider>);
  CHECK_FALSE(supported<op::sum, cpu, view<S, extents<9>, cpu>, wider>);
  CHECK(supported<op::matmul, cpu, y, fits, view<const S, extents<8, 8>, cpu>>);
  CHECK_FALSE(supported<op::matmul, cpu, y, wider, view<const S, extents<8, 8>, cpu>>);
  CHECK(supported<op::linear_forward, cpu, y, wider, in_weight>);
  CHECK_FALSE(supported<op::linear_forward, cpu, y, view<const S, extents<5, 9>, cpu>, in_weight>);
  CHECK(supported<op::broadcast_add, cpu, y, fits, view<const S, extents<8>, cpu>>);
  CHECK_FALSE(supported<op::broadcast_add, cpu, y, fits, view<const S, extents<9>, cpu>>);
}

TEST_CASE("tensors are asked for as they are passed") {
  using variable = tensor<S, dims<2>, cpu>;
  CHECK(supported<op::add, cpu, variable&, const variable&, variable>);
  CHECK(supported<op::scale, cpu, variable&, const variable&, int>);
  CHECK_FALSE(supported<op::add, cpu, const variable&, variable&, variable&>);
  CHECK_FALSE(supported<op::add, cpu, variable, variable&, variable&>);
  CHECK(supported<op::swiglu_forward, cpu, tensor<S, extents<2, 3>, cpu>&, variable&>);
  CHECK_FALSE(supported<op::swiglu_forward, cpu, tensor<S, extents<2>, cpu>&, variable&>);
}

TEST_CASE("a backend that lacks an operation, or has it for other elements, does not support it") {
  using rows = matrix_view<S, host>;
  CHECK(supported<op::silu_residual_forward, host, rows, rows, rows>);
  CHECK_FALSE(supported<op::swiglu_forward, host, rows, rows>);
  CHECK(supported<op::linear_forward, host, rows, rows, weight_view<const S, host>>);
  CHECK_FALSE(supported<op::linear_forward,
                        host,
                        matrix_view<double, host>,
                        matrix_view<const double, host>,
                        weight_view<const double, host>>);
}

}  // namespace mtp::test::supported_cases
