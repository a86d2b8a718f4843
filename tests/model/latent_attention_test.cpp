// Multi-head latent attention as a layer: both of its forms against one reference.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/latent_config.hpp"
#include "support/model.hpp"
#include "support/random.hpp"
#include "support/reference/multi_head_latent_attention.hpp"

namespace mtp::test::latent_attention_cases {

namespace {

using reference::array;
using reference::array_of;

/// A layer of a model, whose norms are no longer ones, and the rows that it is given.
template <model_config Config, class S>
struct subject {
  using layer = multi_head_latent_attention<Config, cpu, S>;
  static constexpr index_t T = 75, C = Config.hidden_size;

  /// Exactly the memory that the layer asks for: more would not be there.
  cpu_context context{{.threads = 2, .workspace_bytes = layer::workspace(T, T, 2)}};
  cpu_context decoding{{.threads = 2, .workspace_bytes = layer::decode_workspace(T, 2)}};
  language_model<Config, cpu, S> model{context, seed{5}};
  guarded<S, 2, cpu> x{dims<2>{T, C}, normal(T* C, 1)};
  guarded<S, 2, cpu> residual{dims<2>{T, C}, normal(T* C, 2)};
  const typename layer::layout at = model.layout.trunk.blocks.at(0).attention;

  subject() {
    for (const parameter& p : {at.query_norm, at.norm}) {
      const auto scale = model.values().vector(p);
      for (index_t i = 0; i < p.outputs; ++i) {
        scale(i) = stored<S>(1 + 0.3 * std::sin(static_cast<double>(i)));
      }
    }
  }

  array<2> matrix(const parameter& p) {
    array<2> rows({p.outputs, std::max<index_t>(p.inputs, 1)});
    const auto w = model.values().matrix(p);
    for (index_t i = 0; i < p.outputs; ++i) {
      for (index_t k = 0; k < p.inputs; ++k) rows(i, k) = static_cast<double>(w(i, k));
    }
    return rows;
  }
  array<1> vector(const parameter& p) {
    return array_of(view<const S, dims<1>, cpu>(model.values().vector(p)));
  }

  reference::latent_parameters parameters() {
    const attention_config& own = Config.attention;
    const double width = own.qk_nope_head_dim + own.qk_rope_head_dim;
    const double m = 0.1 * static_cast<double>(own.rope_scaling.mscale_all_dim) *
                         std::log(static_cast<double>(own.rope_scaling.factor)) +
                     1;
    return {own.num_attention_heads,
            own.qk_nope_head_dim,
            own.qk_rope_head_dim,
            own.v_head_dim,
            own.kv_lora_rank,
            own.q_lora_rank > 0,
            m * m / std::sqrt(width),
            static_cast<double>(Config.rms_norm_eps),
            matrix(at.query_down),
            matrix(at.query),
            matrix(at.down),
            matrix(at.key),
            matrix(at.value),
            matrix(at.output),
            array_of(model.rope()),
            vector(at.query_norm),
            vector(at.norm)};
  }

  guarded<S, 2, cpu> train() {
    guarded<S, 2, cpu> y(dims<2>{T, C});
    buffer<std::byte, cpu> memory(bytes());
    arena own(memory.data(), memory.count());
    const auto a = layer::activations::make(own, T);
    const model_pass<Config, cpu, S> pass{context,
                                          std::as_const(model).values(),
                                          {nullptr, 0},
                                          model.rope(),
                                          1,
                                          T,
                                          {nullptr, {0, 0}}};
    layer::forward(pass, at, a, y.view(), x.view(), residual.view());
    return y;
  }

  /// `rows` rows at a time.
  guarded<S, 2, cpu> decode(index_t rows) {
    guarded<S, 2, cpu> y(dims<2>{T, C});
    buffer<std::byte, cpu> memory(bytes()), kept(bytes());
    arena cache_memory(kept.data(), kept.count());
    const auto cache = layer::make_cache(cache_memory, 1);
    for (index_t first = 0; first < T; first += rows) {
      const index_t M = std::min(rows, T - first);
      arena own(memory.data(), memory.count());
      const auto a = layer::activations::make(own, M);
      std::vector<double> where;
      for (index_t m = 0; m < M; ++m) where.push_back(static_cast<double>(first + m));
      guarded<index_t, 1, cpu> positions(dims<1>{M}, where);
      const row_run run{0, M};
      const row_pass<Config, cpu, S> pass{
          decoding, std::as_const(model).values(), model.rope(), positions.view(), {&run, 1}};
      const auto part = [&](auto& all) { return all.view().slice(0, first, M); };
      layer::decode(pass, at, a, cache, part(y), part(x), part(residual));
    }
    CHECK(decoding.workspace().used() == 0);
    return y;
  }

  static index_t bytes() {
    arena_plan plan;
    layer::activations::make(plan, T);
    layer::make_cache(plan, 1);
    return plan.bytes() + 4096;
  }
};

template <model_config Config, class S>
void check_forms() {
  subject<Config, S> tested;
  const auto parameters = tested.parameters();
  const array<2> x = array_of(tested.x.view()), residual = array_of(tested.residual.view());
  const auto full = reference::multi_head_latent_attention<S>(parameters, x, residual, false);
  const auto absorbed = reference::multi_head_latent_attention<S>(parameters, x, residual, true);
  // The two forms are the same function.
  for (std::size_t i = 0; i < full.value.elements.size(); ++i) {
    CHECK(std::abs(full.value.elements[i] - absorbed.value.elements[i]) < 1e-11);
  }
  const auto trained = tested.train();
  CHECK(within(trained.view(), full.value.elements, full.error.elements));
  CHECK(trained.intact());
  for (const index_t rows : {1, 7, 75}) {
    CAPTURE(rows);
    const auto decoded = tested.decode(rows);
    CHECK(within(decoded.view(), absorbed.value.elements, absorbed.error.elements));
    CHECK(decoded.intact());
  }
}

}  // namespace

TEST_CASE_TEMPLATE("latent attention computes the same in both forms", S, float, double, bf16) {
  SUBCASE("with a low rank of queries") {
    check_forms<latent_layers(head_kind::none, 0), S>();
  }
  SUBCASE("without") {
    check_forms<with_plain_queries(latent_layers(head_kind::none, 0)), S>();
  }
}

TEST_CASE("a layer of latent attention keeps r_kv + r numbers of a position") {
  constexpr auto config = latent_layers(head_kind::none, 0);
  using layer = multi_head_latent_attention<config, cpu, float>;
  arena_plan plan;
  const auto cache = layer::make_cache(plan, 2);
  CHECK(cache.width == 18 + 6);
  CHECK(plan.bytes() == arena_bytes(2 * 160 * 24, sizeof(float)));
}

}  // namespace mtp::test::latent_attention_cases
