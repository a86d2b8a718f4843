// The table of operations in docs/backends.md against what a backend offers. Who includes this says
// which backend and element types `cases` holds.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "mtp/core/cache_view.hpp"
#include "mtp/core/random.hpp"
#include "mtp/ops/accept_typical.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/concat_order.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/head_linear.hpp"
#include "mtp/ops/latent_attention.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "mtp/ops/routing_rule.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"
#include "support/backends.hpp"
#include "support/places.hpp"

namespace mtp::test::backend_table {

/// Something of each type that operations take.
template <class B, class S>
struct operands {
  using A = accumulate_t<S>;
  struct identity {
    MTP_HOST_DEVICE A operator()(A x) const { return x; }
    MTP_HOST_DEVICE A operator()(A x, A) const { return x; }
  };

  context<B>& c;
  matrix_view<S, B> m;
  matrix_view<const S, B> in;
  vector_view<S, B> v;
  vector_view<const S, B> in_v;
  view<S, dims<3>, B> h;
  view<const S, dims<3>, B> in_h;
  weight_view<const S, B> w;
  weight_view<S, B> own_w;
  vector_view<std::byte, B> bytes;
  matrix_view<A, B> sums;
  matrix_view<const A, B> in_sums;
  vector_view<A, B> sums_v;
  vector_view<const A, B> in_sums_v;
  weight_view<A, B> dw;
  cache_view<S, B> cache;
  latent_cache_view<S, B> latents;
  vector_view<token_t, B> tokens;
  vector_view<const token_t, B> in_tokens;
  matrix_view<token_t, B> token_rows;
  matrix_view<index_t, B> whole_rows;
  matrix_view<const index_t, B> in_whole_rows;
  matrix_view<const token_t, B> targets;
  vector_view<index_t, B> positions;
  vector_view<const index_t, B> in_positions;
  vector_view<double, B> result;
  matrix_view<double, B> results;
  matrix_view<const token_t, B> in_token_rows;
  matrix_view<const double, B> in_results;
  vector_view<const adamw_range, B> ranges;
  std::span<const row_run> runs;
  sequence_view<B> text;
  adamw_coefficients k;
  routing_rule rule;
  identity f;
  random_stream random;
  index_t n;
  A a;
};

// A table, which clang-format 14 does not know how to keep.
// clang-format off

/// Which operations the backend has for elements of S.
template <class B, class S>
std::map<std::string, bool> offered() {
  using ops = ops_of<B>;
  using o = operands<B, S>;
  return {
      {"fill", requires(o x) { ops::fill(x.c, x.m, x.a); }},
      {"fill_normal", requires(o x) { ops::fill_normal(x.c, x.own_w, 0.5, x.random); }},
      {"copy", requires(o x) { ops::copy(x.c, x.m, x.in); }},
      {"add", requires(o x) { ops::add(x.c, x.m, x.in, x.in); }},
      {"subtract", requires(o x) { ops::subtract(x.c, x.m, x.in, x.in); }},
      {"multiply", requires(o x) { ops::multiply(x.c, x.m, x.in, x.in); }},
      {"divide", requires(o x) { ops::divide(x.c, x.m, x.in, x.in); }},
      {"scale", requires(o x) { ops::scale(x.c, x.m, x.in, x.a); }},
      {"axpy", requires(o x) { ops::axpy(x.c, x.m, x.a, x.in); }},
      {"transform", requires(o x) {
         ops::transform(x.c, x.m, x.in, x.f);
         ops::transform(x.c, x.m, x.in, x.in, x.f);
       }},
      {"where", requires(o x) { ops::where(x.c, x.m, x.in, x.in, x.in); }},
      {"broadcast_add", requires(o x) { ops::broadcast_add(x.c, x.m, x.in, x.in_v); }},
      {"sum", requires(o x) { ops::sum(x.c, x.v, x.in); }},
      {"mean", requires(o x) { ops::mean(x.c, x.v, x.in); }},
      {"maximum", requires(o x) { ops::maximum(x.c, x.v, x.in); }},
      {"minimum", requires(o x) { ops::minimum(x.c, x.v, x.in); }},
      {"argmax", requires(o x) { ops::argmax(x.c, x.tokens, x.in); }},
      {"softmax_forward", requires(o x) { ops::softmax_forward(x.c, x.m, x.in); }},
      {"softmax_backward", requires(o x) { ops::softmax_backward(x.c, x.m, x.in, x.in); }},
      {"matmul", requires(o x) { ops::matmul(x.c, x.m, x.in, x.in, update::overwrite); }},
      {"linear_forward", requires(o x) {
         ops::linear_forward(x.c, x.m, x.in, x.w);
         ops::linear_forward(x.c, x.sums, x.in, x.w);
       }},
      {"linear_bias_forward", requires(o x) {
         ops::linear_bias_forward(x.c, x.m, x.in, x.w, x.in_v);
       }},
      {"linear_add_forward", requires(o x) { ops::linear_add_forward(x.c, x.m, x.in, x.w, x.in); }},
      {"linear_backward_input", requires(o x) { ops::linear_backward_input(x.c, x.m, x.in, x.w); }},
      {"linear_add_backward_input", requires(o x) {
         ops::linear_add_backward_input(x.c, x.m, x.in, x.w, x.in);
       }},
      {"linear_backward_weight", requires(o x) {
         ops::linear_backward_weight(x.c, x.dw, x.in, x.in);
       }},
      {"linear_backward_bias", requires(o x) { ops::linear_backward_bias(x.c, x.sums_v, x.in); }},
      {"grouped_linear_forward", requires(o x) {
         ops::grouped_linear_forward(x.c, x.m, x.in, x.w, x.in_positions);
       }},
      {"grouped_linear_backward_input", requires(o x) {
         ops::grouped_linear_backward_input(x.c, x.m, x.in, x.w, x.in_positions);
       }},
      {"grouped_linear_backward_weight", requires(o x) {
         ops::grouped_linear_backward_weight(x.c, x.dw, x.in, x.in, x.in_positions);
       }},
      {"route", requires(o x) {
         ops::route(x.c, x.whole_rows, x.sums, x.sums, x.in_sums, x.in_v, x.rule);
       }},
      {"route_backward", requires(o x) {
         ops::route_backward(x.c, x.m, x.in_sums, x.in_whole_rows, x.in_sums, x.in_sums, x.rule);
       }},
      {"sequence_balance_backward", requires(o x) {
         ops::sequence_balance_backward(x.c, x.sums, x.result, x.in_sums, x.in_whole_rows, x.n, 0.5);
       }},
      {"group_rows", requires(o x) {
         ops::group_rows(x.c, x.positions, x.positions, x.whole_rows, x.in_whole_rows);
       }},
      {"add_group_sizes", requires(o x) { ops::add_group_sizes(x.c, x.sums_v, x.in_positions); }},
      {"gather_rows", requires(o x) { ops::gather_rows(x.c, x.m, x.in, x.in_positions); }},
      {"scatter_rows", requires(o x) {
         ops::scatter_rows(x.c, x.m, x.in, x.in, x.in_whole_rows, x.in_sums);
       }},
      {"scatter_rows_backward", requires(o x) {
         ops::scatter_rows_backward(x.c, x.m, x.sums, x.in, x.in, x.in_whole_rows, x.in_sums);
       }},
      {"head_linear_forward", requires(o x) {
         ops::head_linear_forward(x.c, x.h, x.in_h, x.w);
       }},
      {"head_linear_backward_input", requires(o x) {
         ops::head_linear_backward_input(x.c, x.h, x.in_h, x.w);
       }},
      {"quantize_weight", requires(o x) { ops::quantize_weight(x.c, x.bytes, x.w); }},
      {"quantized_rows", requires(o x) { ops::quantized_rows(x.c, x.bytes, x.w, x.in_positions); }},
      {"rms_norm_forward", requires(o x) {
         ops::rms_norm_forward(x.c, x.h, x.sums, x.in_h, x.in_v, 1e-5);
       }},
      {"rms_norm_backward", requires(o x) {
         ops::rms_norm_backward(x.c, x.h, x.sums_v, x.in_h, x.in_h, x.in_sums, x.in_v, x.in_h);
       }},
      {"rope_forward", requires(o x) { ops::rope_forward(x.c, x.h, x.in_sums, x.n, x.n); }},
      {"rope_backward", requires(o x) { ops::rope_backward(x.c, x.h, x.in_sums, x.n, x.n); }},
      {"swiglu_forward", requires(o x) { ops::swiglu_forward(x.c, x.m, x.in); }},
      {"swiglu_backward", requires(o x) { ops::swiglu_backward(x.c, x.m, x.in, x.in); }},
      {"silu_residual_forward", requires(o x) {
         ops::silu_residual_forward(x.c, x.m, x.in, x.in);
       }},
      {"silu_residual_backward", requires(o x) {
         ops::silu_residual_backward(x.c, x.m, x.in, x.in);
       }},
      {"attention_forward", requires(o x) {
         ops::attention_forward(x.c, x.h, x.sums, x.in_h, x.in_h, x.in_h, x.n);
       }},
      {"attention_backward", requires(o x) {
         ops::attention_backward(x.c, x.h, x.h, x.h, x.in_h, x.in_h, x.in_h, x.in_h, x.in_h,
             x.in_sums, x.n);
       }},
      {"attention_cached_forward", requires(o x) {
         ops::attention_cached_forward(x.c, x.h, x.cache, x.in_h, x.in_h, x.in_h, x.in_positions,
             x.runs);
       }},
      {"rope_attention_forward", requires(o x) {
         ops::rope_attention_forward(x.c, x.h, x.sums, x.h, x.h, x.in_h, x.in_sums, x.n);
       }},
      {"rope_attention_backward", requires(o x) {
         ops::rope_attention_backward(x.c, x.h, x.h, x.h, x.in_h, x.in_h, x.in_h, x.in_h, x.in_h,
             x.in_sums, x.in_sums, x.n);
       }},
      {"rope_attention_cached_forward", requires(o x) {
         ops::rope_attention_cached_forward(x.c, x.h, x.cache, x.h, x.h, x.in_h, x.in_sums,
             x.in_positions, x.runs);
       }},
      {"latent_attention_cached_forward", requires(o x) {
         ops::latent_attention_cached_forward(x.c, x.h, x.latents, x.in_h, x.in, 1.0,
             x.in_positions, x.runs);
       }},
      {"combine_forward", requires(o x) {
         ops::combine_forward(x.c, x.m, x.sums_v, x.sums_v, x.in, x.w, x.in_tokens, x.in_v,
             x.in_v, x.w, concat_order{}, 1e-5);
       }},
      {"combine_backward", requires(o x) {
         ops::combine_backward(x.c, x.m, x.sums_v, x.sums_v, x.dw, x.dw, x.in, x.in, x.in_sums_v,
             x.in_sums_v, x.w, x.in_tokens, x.in_v, x.in_v, x.w, concat_order{});
       }},
      {"embedding_forward", requires(o x) { ops::embedding_forward(x.c, x.m, x.w, x.in_tokens); }},
      {"embedding_backward", requires(o x) {
         ops::embedding_backward(x.c, x.dw, x.in, x.in_tokens);
       }},
      {"sum_over_ranks", requires(o x) { ops::sum_over_ranks(x.c, x.v); }},
      {"sharded_embedding_forward", requires(o x) {
         ops::sharded_embedding_forward(x.c, x.m, x.w, x.in_tokens);
       }},
      {"sharded_embedding_backward", requires(o x) {
         ops::sharded_embedding_backward(x.c, x.dw, x.in, x.in_tokens);
       }},
      {"sharded_combine_forward", requires(o x) {
         ops::sharded_combine_forward(x.c, x.m, x.sums_v, x.sums_v, x.in, x.w, x.in_tokens, x.in_v,
             x.in_v, x.w, concat_order{}, 1e-5);
       }},
      {"sharded_combine_backward", requires(o x) {
         ops::sharded_combine_backward(x.c, x.m, x.sums_v, x.sums_v, x.dw, x.dw, x.in, x.in,
             x.in_sums_v, x.in_sums_v, x.w, x.in_tokens, x.in_v, x.in_v, x.w, concat_order{});
       }},
      {"sharded_linear_forward", requires(o x) {
         ops::sharded_linear_forward(x.c, x.m, x.in, x.w);
       }},
      {"sharded_cross_entropy", requires(o x) {
         ops::sharded_cross_entropy(x.c, x.sums, x.tokens, x.m, x.dw, x.in, x.w, x.targets,
             x.in_sums);
       }},
      {"sharded_cross_entropy_forward", requires(o x) {
         ops::sharded_cross_entropy_forward(x.c, x.sums, x.tokens, x.in, x.w, x.targets);
       }},
      {"linear_cross_entropy", requires(o x) {
         ops::linear_cross_entropy(x.c, x.sums, x.tokens, x.m, x.dw, x.in, x.w, x.targets,
             x.in_sums);
       }},
      {"linear_cross_entropy_forward", requires(o x) {
         ops::linear_cross_entropy_forward(x.c, x.sums, x.tokens, x.in, x.w, x.targets);
       }},
      {"predict", requires(o x) { ops::predict(x.c, x.tokens, x.in); }},
      {"sum_of_squares", requires(o x) { ops::sum_of_squares(x.c, x.result, x.in_v); }},
      {"adamw_update", requires(o x) {
         ops::adamw_update(x.c, x.v, x.sums_v, x.sums_v, x.sums_v, x.in_sums_v, x.ranges, x.k);
       }},
      {"select_rows", requires(o x) {
         ops::select_rows(x.c, x.positions, x.tokens, x.text, x.n, x.n);
       }},
      {"store_rows", requires(o x) { ops::store_rows(x.c, x.m, x.in, x.in_positions); }},
      {"load_rows", requires(o x) { ops::load_rows(x.c, x.m, x.in, x.in_positions); }},
      {"append_drafts", requires(o x) { ops::append_drafts(x.c, x.text, x.in_tokens, x.n); }},
      {"accept_drafts", requires(o x) { ops::accept_drafts(x.c, x.text, x.in_tokens, x.n); }},
      {"grow_tree", requires(o x) {
         ops::grow_tree(x.c, x.text, x.in_token_rows, x.in_results, draft_tree{});
       }},
      {"accept_tree", requires(o x) { ops::accept_tree(x.c, x.text, x.in_tokens, x.n); }},
      {"keep_path", requires(o x) { ops::keep_path(x.c, x.cache, x.text, x.n); }},
      {"exclude_tokens", requires(o x) { ops::exclude_tokens(x.c, x.sums, x.in_tokens); }},
      {"choose_tokens", requires(o x) { ops::choose_tokens(x.c, x.tokens, x.in, x.text, x.n); }},
      {"draw_drafts", requires(o x) {
         ops::draw_drafts(x.c, x.tokens, x.whole_rows, x.in, x.text, x.n, draft_unit::token);
       }},
      {"reject_drafts", requires(o x) {
         ops::reject_drafts(x.c, x.tokens, x.in, x.in_whole_rows, x.text, draft_unit::token);
       }},
      {"accept_typical", requires(o x) {
         ops::accept_typical(x.c, x.tokens, x.in, x.text, typical_acceptance{});
       }},
      {"token_log_probabilities", requires(o x) {
         ops::token_log_probabilities(x.c, x.result, x.in, x.in_tokens);
       }},
      {"best_tokens", requires(o x) { ops::best_tokens(x.c, x.token_rows, x.results, x.in); }},
  };
}
// clang-format on

/// Rows of the table: the operation, then a cell for each of "cpu f64", ... as the head says.
struct table {
  std::vector<std::string> columns;
  std::map<std::string, std::vector<std::string>> rows;
};

inline std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream rest(line);
  std::string cell;
  std::getline(rest, cell, '|');  // before the first bar
  while (std::getline(rest, cell, '|')) {
    const auto begin = cell.find_first_not_of(" `");
    const auto end = cell.find_last_not_of(" `");
    cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
  }
  return cells;
}

inline table read_table() {
  std::ifstream file(source_folder() / "docs/backends.md");
  REQUIRE(file.good());
  table made;
  for (std::string line; std::getline(file, line);) {
    const auto cells = cells_of(line);
    if (!cells.empty() && cells[0] == "Operation") {
      made.columns.assign(cells.begin() + 1, cells.end());
    } else if (!made.columns.empty() && cells.size() == made.columns.size() + 1 &&
               cells[0].find('-') == std::string::npos) {
      made.rows[cells[0]].assign(cells.begin() + 1, cells.end());
    } else if (!made.columns.empty() && cells.empty()) {
      break;
    }
  }
  return made;
}

/// Names in backticks in the column `column` of the table whose head begins with `head`.
inline std::set<std::string> names_in_table(const std::string& head, std::size_t column) {
  std::ifstream file(source_folder() / "docs/backends.md");
  REQUIRE(file.good());
  std::set<std::string> names;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    inside = line.rfind("| " + head + " |", 0) == 0 || (inside && line.rfind('|', 0) == 0);
    std::istringstream cells(line);
    std::string cell, name;
    for (std::size_t i = 0; inside && i <= column + 1; ++i) {
      std::getline(cells, cell, '|');
    }
    std::istringstream ticks(cell);
    while (std::getline(ticks, name, '`') && std::getline(ticks, name, '`')) {
      names.insert(name);
    }
  }
  REQUIRE_FALSE(names.empty());
  return names;
}

template <class Case>
void check_case(const table& documented, const std::string& backend) {
  using S = typename Case::scalar;
  const std::string column = backend + (std::is_same_v<S, double>  ? " f64"
                                        : std::is_same_v<S, float> ? " f32"
                                                                   : " bf16");
  CAPTURE(column);
  std::size_t at = 0;
  while (at < documented.columns.size() && documented.columns[at] != column) {
    ++at;
  }
  REQUIRE(at < documented.columns.size());
  const auto actual = offered<typename Case::backend, S>();
  CHECK(documented.rows.size() == actual.size());
  for (const auto& entry : actual) {
    const std::string& operation = entry.first;
    CAPTURE(operation);
    REQUIRE(documented.rows.count(operation) == 1);
    CHECK(entry.second == !documented.rows.at(operation)[at].empty());
    // Trees of drafts, weights in 8 bits and parts of models are the only things that a backend may
    // do without.
    const bool of_parts = operation == "sum_over_ranks" || operation.rfind("sharded_", 0) == 0;
    CHECK((entry.second || !decodes_trees<typename Case::backend> || of_parts ||
           operation.rfind("quantize", 0) == 0));
  }
}

template <class... Case>
void check_cases(const std::tuple<Case...>&, const std::string& backend) {
  const table documented = read_table();
  REQUIRE(documented.columns.size() == 6);
  (check_case<Case>(documented, backend), ...);
}

}  // namespace mtp::test::backend_table
