// Models that ranks have parts of, against one process that has all of it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gradient_check.hpp"
#include "mtp/model/divide.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/tensor_ranks.hpp"
#include "support/tolerance.hpp"

namespace mtp::test {

/// A small configuration that 2 ranks divide, and that is a multiple of nothing else: V = 22, F =
/// 14; or 4 ranks: V = 20, F = 12, 8 heads, 4 of keys.
constexpr model_config for_ranks(model_config config, int ranks) {
  config.vocab_size = ranks == 2 ? 22 : 20;
  config.feed_forward.intermediate_size = ranks == 2 ? 14 : 12;
  if (ranks == 4) {
    config.attention.num_attention_heads = 8;
    config.attention.num_key_value_heads = 4;
    config.attention.head_dim = 4;
  }
  return config;
}

/// Where element (row, column) of a parameter of the whole model is: of a divided one, with whom,
/// and where there. Written from the names alone, the other way round than the library does it.
struct element_home {
  bool divided = false;
  int rank = 0;
  index_t row = 0, column = 0;
};
template <model_config Config>
element_home home_of(const std::string& name, index_t row, index_t column, int ranks) {
  const auto ends_with = [&](std::string_view end) { return name.ends_with(end); };
  const auto in_pieces = [&](std::vector<index_t> pieces) {
    index_t begin = 0, own_begin = 0;
    for (const index_t piece : pieces) {
      const index_t own = piece / ranks;
      if (row < begin + piece) {
        const index_t within = row - begin;
        return element_home{true, static_cast<int>(within / own), own_begin + within % own, column};
      }
      begin += piece;
      own_begin += own;
    }
    return element_home{};
  };
  const auto in_columns = [&](index_t width) {
    const index_t own = width / ranks;
    return element_home{true, static_cast<int>(column / own), row, column % own};
  };
  const index_t E = Config.head_dim(), F = Config.feed_forward.intermediate_size;
  const index_t queries = Config.attention.num_attention_heads * E;
  const index_t keys = Config.num_key_value_heads() * E;
  if (ends_with("qkv_proj.weight") || ends_with("qkv_proj.bias")) {
    return in_pieces({queries, keys, keys});
  }
  if (ends_with("gate_up_proj.weight")) return in_pieces({F, F});
  if (ends_with("embed_tokens.weight") || ends_with("lm_head.weight")) {
    return in_pieces({Config.vocab_size});
  }
  if (ends_with("o_proj.weight")) return in_columns(queries);
  if (ends_with("down_proj.weight")) return in_columns(F);
  return {false, 0, row, column};
}

/// Calls body(name, divided, place in the whole array, place in the part) for the elements that
/// rank `rank` has; arrays hold T.
template <model_config Config, int Ranks, class S, class T, class Body>
void for_each_own(int rank, const Body& body) {
  using part_type = language_model<tensor_parallel(Config, Ranks), cpu, S>;
  std::map<std::string, parameter> parts;
  part_type::layout.visit([&](const std::string& name, const parameter& p) { parts[name] = p; });
  language_model<Config, cpu, S>::layout.visit([&](const std::string& name, const parameter& p) {
    const parameter& own = parts.at(name);
    const auto place = [](const parameter& at, index_t row, index_t column) {
      return static_cast<std::size_t>(at.offset + (at.is_vector()
                                                       ? row
                                                       : backend_traits<cpu>::weight_offset<T>(
                                                             row, column, at.outputs, at.inputs)));
    };
    for (index_t row = 0; row < p.outputs; ++row) {
      for (index_t column = 0; column < (p.is_vector() ? 1 : p.inputs); ++column) {
        const element_home home = home_of<Config>(name, row, column, Ranks);
        if (!home.divided || home.rank == rank) {
          body(name, home.divided, place(p, row, column), place(own, home.row, home.column));
        }
      }
    }
  });
}

/// What a rank has of an array of a whole model.
template <model_config Config, int Ranks, class S, class T>
std::vector<T> part_of(const std::vector<T>& whole, int rank) {
  using part_type = language_model<tensor_parallel(Config, Ranks), cpu, S>;
  std::vector<T> part(static_cast<std::size_t>(part_type::layout.storage));
  for_each_own<Config, Ranks, S, T>(
      rank,
      [&](const std::string&, bool, std::size_t at, std::size_t own) { part[own] = whole[at]; });
  return part;
}

/// The whole array that parts make up. What all ranks have must have the same bits on all.
template <model_config Config, int Ranks, class S, class T>
std::vector<T> joined(const std::vector<std::vector<T>>& parts) {
  std::vector<T> whole(static_cast<std::size_t>(language_model<Config, cpu, S>::layout.storage));
  std::string differs;
  for (int rank = 0; rank < Ranks; ++rank) {
    const auto& part = parts[static_cast<std::size_t>(rank)];
    for_each_own<Config, Ranks, S, T>(
        rank, [&](const std::string& name, bool divided, std::size_t at, std::size_t own) {
          if (!divided && rank > 0 && std::memcmp(&whole[at], &part[own], sizeof(T)) != 0) {
            differs = name + " on rank " + std::to_string(rank);
          }
          whole[at] = part[own];
        });
  }
  CHECK(differs == "");
  return whole;
}

/// What a pass gives.
template <class S>
struct pass_outcome {
  std::vector<accumulate_t<S>> gradients;
  std::vector<double> report;
  std::vector<accumulate_t<S>> logits;
};

template <class Report>
std::vector<double> numbers_of_losses(const Report& report) {
  std::vector<double> all{report.total};
  for (const auto& depth : report.depths) {
    all.insert(all.end(),
               {depth.loss, static_cast<double>(depth.targets), static_cast<double>(depth.agreed)});
  }
  return all;
}

/// A pass of a model over a batch, with gradients added to `prior`.
template <class Model, class Options>
pass_outcome<typename Model::scalar_type> run_pass(cpu_context& context,
                                                   const Model& model,
                                                   const token_batch& batch,
                                                   const Options& options,
                                                   std::vector<typename Model::sum_type> prior) {
  using S = typename Model::scalar_type;
  model_loss<Model::config, cpu, S, Model> loss(context, batch.batch, batch.length);
  pass_outcome<S> outcome;
  const auto report = loss.with_gradients(
      context,
      model,
      parameter_array<accumulate_t<S>, cpu>(prior.data(), static_cast<index_t>(prior.size())),
      batch.view(),
      options);
  outcome.report = numbers_of_losses(report);
  outcome.gradients = std::move(prior);
  loss.visit_logits(context, model, batch.view(), [&](std::size_t, const auto& logits) {
    outcome.logits = join(std::move(outcome.logits), elements(logits));
  });
  return outcome;
}

/// Relative error of what a model of f64 computes, if all sums are added in another order: the sums
/// that follow each other have so many terms, once forward and once backward, and a factor of 8
/// covers that errors grow on their way through norms and softmax of these small models.
template <model_config Config>
double reordering_error(const token_batch& batch) {
  const int blocks = Config.num_hidden_layers + Config.prediction.depth;
  const int heads = Config.attention.num_attention_heads * Config.head_dim();
  const int block = 4 * Config.hidden_size + heads + Config.head_dim() +
                    2 * Config.feed_forward.intermediate_size + static_cast<int>(batch.length);
  const int rest = Config.vocab_size + Config.hidden_size +
                   static_cast<int>(batch.batch * batch.length) * (Config.prediction.depth + 1);
  return 8 * 2 * gamma(blocks * block + rest, 0x1p-53);
}

/// Each number of an array is off by no more than `error` of the largest of its parameter.
template <model_config Config>
void check_close(const std::vector<double>& actual,
                 const std::vector<double>& expected,
                 double error) {
  language_model<Config, cpu, double>::layout.visit(
      [&](const std::string& name, const parameter& p) {
        CAPTURE(name);
        const auto rows = rows_of<double>(std::span(expected), p);
        double largest = 0;
        for (const double x : rows) largest = std::max(largest, std::abs(x));
        CHECK(within(rows_of<double>(std::span(actual), p),
                     rows,
                     std::vector<double>(rows.size(), error * (1 + largest))));
      });
}

/// Losses, logits and gradients of `Ranks` ranks are those of one process, and what all ranks have
/// has the same bits on all.
template <model_config Config, int Ranks>
void check_ranks_of_one_pass(loss_normalization normalization,
                             gradient_scope scope = gradient_scope::joint) {
  constexpr model_config divided = tensor_parallel(Config, Ranks);
  subject<Config, double> whole(1);
  const token_batch batch = random_batch(Config, 2, 7, 5);
  const auto options = distinct_options<Config>(normalization, scope);
  std::vector<double> prior = normal(whole.layout.storage, 77);
  for (double& x : prior) x *= 0.01;
  const auto expected = run_pass(whole.context, whole.model, batch, options, prior);

  std::vector<pass_outcome<double>> all(Ranks);
  std::vector<std::vector<double>> gradients(Ranks), gathered(Ranks);
  on_ranks(Ranks, [&](cpu_context& context, int rank) {
    const auto at = static_cast<std::size_t>(rank);
    language_model<divided, cpu, double> model(context, seed{9});
    divide_parameters(model, whole.model, *context.ranks());
    all[at] = run_pass(context, model, batch, options, part_of<Config, Ranks, double>(prior, rank));
    gradients[at] = all[at].gradients;
    cpu_context own({.threads = 1});
    language_model<Config, cpu, double> copy(own, seed{10});
    gather_parameters(copy, model, *context.ranks());
    gathered[at] = elements(copy.values().vector({.offset = 0, .outputs = copy.layout.storage}));
  });
  const double error = reordering_error<Config>(batch);
  check_close<Config>(joined<Config, Ranks, double>(gradients), expected.gradients, error);
  for (std::size_t rank = 0; rank < Ranks; ++rank) {
    CHECK(same_bits(all[rank].report, all[0].report));
    CHECK(same_bits(all[rank].logits, all[0].logits));
    CHECK(same_bits(gathered[rank],
                    std::vector<double>(whole.values().begin(), whole.values().end())));
  }
  std::vector<double> bounds, logit_bounds;
  for (const double x : expected.report) bounds.push_back(error * (1 + std::abs(x)));
  for (const double x : expected.logits) logit_bounds.push_back(error * (1 + std::abs(x)));
  CHECK(within(all[0].report, expected.report, bounds));
  CHECK(within(all[0].logits, expected.logits, logit_bounds));
}

/// The first values of parts are those of the whole model for the same seed, and one rank has the
/// bits of one process in all it computes.
template <model_config Config, int Ranks, class S = float>
void check_first_values() {
  cpu_context context({.threads = 1});
  const language_model<Config, cpu, S> whole(context, seed{42});
  std::vector<std::vector<S>> parts(Ranks);
  on_ranks(Ranks, [&](cpu_context& own, int rank) {
    language_model<tensor_parallel(Config, Ranks), cpu, S> model(own, seed{42});
    parts[static_cast<std::size_t>(rank)] =
        elements(model.values().vector({.offset = 0, .outputs = model.layout.storage}));
  });
  const auto all = joined<Config, Ranks, S>(parts);
  CHECK(same_bits(all,
                  elements(whole.values().vector({.offset = 0, .outputs = whole.layout.storage}))));
}

}  // namespace mtp::test
