// Models that have only the end of a trunk, and heads that start from it.
#include "mtp/model/heads_model.hpp"

#include <cstddef>
#include <doctest/doctest.h>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"
#include "support/model.hpp"

namespace mtp::test::model_heads_model_cases {

namespace {

template <class Model>
std::vector<double> rows(const Model& model, const parameter& p) {
  using S = typename Model::scalar_type;
  const std::span<const S> all(model.values().data(),
                               static_cast<std::size_t>(model.values().count()));
  return to_double(rows_of<S>(all, p));
}

/// Everything of a block, one parameter after the other.
template <class Model, class Block>
std::vector<std::vector<double>> parts(const Model& model, const Block& block) {
  std::vector<std::vector<double>> all;
  block.visit("", [&](const std::string&, const parameter& p) { all.push_back(rows(model, p)); });
  return all;
}

template <head_kind Kind>
using model_of = language_model<tiny_config(Kind, 2), cpu, double>;

}  // namespace

TEST_CASE("a model for heads has the end of the trunk, and gives the head back") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  constexpr auto small = heads_config(config);
  static_assert(small.num_hidden_layers == 1);
  cpu_context context({.threads = 1});
  language_model<config, cpu, float> whole(context, seed{1}), other(context, seed{3});
  language_model<small, cpu, double> part(context, seed{2});
  copy_for_heads(part, whole);
  const auto& from = whole.trunk_layout();
  const auto& to = part.trunk_layout();
  CHECK(rows(part, to.embedding) == rows(whole, from.embedding));
  CHECK(rows(part, to.norm) == rows(whole, from.norm));
  CHECK(rows(part, to.output) == rows(whole, from.output));
  CHECK(parts(part, to.last_block()) == parts(whole, from.last_block()));
  CHECK(parts(whole, from.last_block()) != parts(whole, from.blocks.at(0)));
  CHECK(parts(part, part.head_layout().parts[1]) == parts(whole, whole.head_layout().parts[1]));

  const auto trunk = rows(other, from.embedding);
  copy_head(other, part);
  for (std::size_t m = 0; m < 2; ++m) {
    CHECK(parts(other, other.head_layout().parts[m]) == parts(whole, whole.head_layout().parts[m]));
  }
  CHECK(rows(other, from.embedding) == trunk);
}

TEST_CASE("a sequential head starts as the trunk's last block on the hidden state") {
  cpu_context context({.threads = 1});
  const auto check = [&]<model_config Config>(language_model<Config, cpu, double> model) {
    const auto& trunk = model.trunk_layout();
    const auto& module = model.head_layout().parts.back();
    const auto before = rows(model, module.projection);  // [C, 2 C]
    start_from_trunk(context, model);
    CHECK(parts(model, module.block) == parts(model, trunk.last_block()));
    const index_t C = Config.hidden_size;
    const index_t begin = Config.prediction.concat == concat_order::hidden_first ? 0 : C;
    const auto projection = rows(model, module.projection);  // [C, 2 C]
    for (index_t n = 0; n < C; ++n) {
      for (index_t k = 0; k < 2 * C; ++k) {
        const auto at = static_cast<std::size_t>(n * 2 * C + k);
        const bool of_hidden = k >= begin && k < begin + C;
        CHECK(projection[at] == (!of_hidden ? before[at] : k == n + begin ? 1 : 0));
      }
    }
  };
  constexpr auto other_order = [] {
    auto config = tiny_config(head_kind::recurrent, 2);
    config.prediction.concat = concat_order::embedding_first;
    return config;
  }();
  check(model_of<head_kind::sequential>(context, seed{1}));
  check(language_model<other_order, cpu, double>(context, seed{1}));
}

TEST_CASE("norms, extra blocks and output matrices of heads start as the trunk's") {
  cpu_context context({.threads = 1});
  {
    subject<tiny_config(head_kind::parallel, 2), double> tested(1);  // no norm is one
    start_from_trunk(tested.context, tested.model);
    const auto& head = tested.model.head_layout();
    const auto& trunk = tested.model.trunk_layout();
    for (std::size_t k = 0; k < 2; ++k) {
      CHECK(parts(tested.model, head.block[k]) == parts(tested.model, trunk.last_block()));
      CHECK(rows(tested.model, head.norm[k]) == rows(tested.model, trunk.norm));
    }
    CHECK(rows(tested.model, trunk.norm) != std::vector<double>(12, 1.0));
  }
  model_of<head_kind::independent> model(context, seed{1});
  start_from_trunk(context, model);
  for (const auto& depth : model.head_layout().depth) {
    CHECK(rows(model, depth.output) == rows(model, model.trunk_layout().output));
  }
}

}  // namespace mtp::test::model_heads_model_cases
