// A mixture of two experts, a feed-forward kind that the library does not have. Every row goes
// through both, weighted by a router (Jacobs et al. 1991, "Adaptive mixtures of local experts").
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#include "mtp/model/layers/layer.hpp"

inline constexpr mtp::feed_forward_kind two_experts{.name = "two_experts"};

///     y = residual + sum_e W_down_e (r_e silu(gate_e) * up_e),   [gate_e ; up_e] = W_gate_up_e x
///     r = softmax(W_router x)
template <mtp::model_config Config, class Backend, mtp::scalar S>
struct two_expert_mixture {
  static_assert(mtp::host_accessible<Backend>,
                "two_expert_mixture: the host weights the rows, so the backend's memory must be "
                "the host's");
  using index_t = mtp::index_t;
  using sum_type = mtp::accumulate_t<S>;
  using matrix = mtp::matrix_view<S, Backend>;
  using input_matrix = mtp::matrix_view<const S, Backend>;
  static constexpr index_t C = Config.hidden_size, F = Config.feed_forward.intermediate_size;

  struct expert_layout {
    mtp::parameter gate_up;  // [2 F, C]
    mtp::parameter down;     // [C, F]
  };
  struct layout {
    mtp::parameter router;  // [2, C]
    std::array<expert_layout, 2> expert;

    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      at.router = cursor.matrix(2, C);
      for (auto& expert : at.expert) {
        expert.gate_up = cursor.matrix(2 * F, C);
        expert.down = cursor.matrix(C, F, mtp::parameter_role::residual);
      }
      return at;
    }
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      visitor(prefix + "mlp.gate.weight", router);
      for (std::size_t e = 0; e < 2; ++e) {
        const std::string name = prefix + "mlp.experts." + std::to_string(e);
        visitor(name + ".gate_up_proj.weight", expert[e].gate_up);
        visitor(name + ".down_proj.weight", expert[e].down);
      }
    }
  };

  struct expert_activations {
    matrix gate_up;   // [N, 2 F]
    matrix gated;     // [N, F]: silu(gate) * up
    matrix weighted;  // [N, F]: r gated
  };
  struct activations {
    matrix router;  // [N, 2]: W_router x, then r
    std::array<expert_activations, 2> expert;

    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const auto rows = [&](index_t columns) {
        return matrix(arena.template take<S>(N * columns), {N, columns});
      };
      const auto expert = [&] {
        const matrix gate_up = rows(2 * F), gated = rows(F);
        return expert_activations{gate_up, gated, rows(F)};
      };
      const matrix router = rows(2);
      const auto first = expert();
      return {router, {first, expert()}};
    }
  };
  using scratch = activations;  // gradients, of the same shapes

  static constexpr index_t workspace(index_t N, index_t, index_t threads) {
    using ops = mtp::ops_of<Backend>;
    return (std::max)({ops::template linear_workspace<S>(N, 2, C, threads),
                       ops::template linear_workspace<S>(N, 2 * F, C, threads),
                       ops::template linear_workspace<S>(N, C, F, threads),
                       ops::template row_workspace<S>(N, 2 * F, threads)});
  }
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = mtp::ops_of<Backend>;
    return (std::max)({ops::template linear_forward_workspace<S>(M, 2, C, threads),
                       ops::template linear_forward_workspace<S>(M, 2 * F, C, threads),
                       ops::template linear_forward_workspace<S>(M, C, F, threads),
                       ops::template row_workspace<S>(M, 2 * F, threads)});
  }

  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    auto& context = pass.context;
    linear_forward(context, a.router, x, pass.w.matrix(at.router));
    for (index_t n = 0; n < x.extent(0); ++n) {
      const sum_type difference = number(a.router(n, 1)) - number(a.router(n, 0));
      a.router(n, 0) = static_cast<S>(1 / (1 + std::exp(difference)));
      a.router(n, 1) = static_cast<S>(1 / (1 + std::exp(-difference)));
    }
    for (std::size_t e = 0; e < 2; ++e) {
      const expert_activations& expert = a.expert[e];
      linear_forward(context, expert.gate_up, x, pass.w.matrix(at.expert[e].gate_up));
      swiglu_forward(context, expert.gated, expert.gate_up);
      weight(expert.weighted, a.router, e, expert.gated);
      const auto down = pass.w.matrix(at.expert[e].down);
      linear_add_forward(context, y, expert.weighted, down, e == 0 ? residual : input_matrix(y));
    }
  }

  /// With dz_e = W_down_e^T dy, the gradient of r_e gated_e:
  ///     dr_e = dz_e gated_e,  dlogit_0 = r_0 r_1 (dr_0 - dr_1) = -dlogit_1,  dgated_e = r_e dz_e
  template <class Pass>
  static void backward(const Pass& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       input_matrix dy,
                       input_matrix x) {
    auto& context = pass.context;
    for (std::size_t e = 0; e < 2; ++e) {
      const auto& p = at.expert[e];
      linear_backward_weight(context, pass.g.matrix(p.down), dy, a.expert[e].weighted);
      linear_backward_input(context, d.expert[e].weighted, dy, pass.w.matrix(p.down));
      weight(d.expert[e].gated, a.router, e, d.expert[e].weighted);
      swiglu_backward(context, d.expert[e].gate_up, d.expert[e].gated, a.expert[e].gate_up);
      linear_backward_weight(context, pass.g.matrix(p.gate_up), d.expert[e].gate_up, x);
    }
    for (index_t n = 0; n < x.extent(0); ++n) {
      sum_type difference = 0;  // dr_0 - dr_1
      for (index_t f = 0; f < F; ++f) {
        difference += number(d.expert[0].weighted(n, f)) * number(a.expert[0].gated(n, f)) -
                      number(d.expert[1].weighted(n, f)) * number(a.expert[1].gated(n, f));
      }
      const sum_type dlogit = number(a.router(n, 0)) * number(a.router(n, 1)) * difference;
      d.router(n, 0) = static_cast<S>(dlogit);
      d.router(n, 1) = static_cast<S>(-dlogit);
    }
    linear_backward_weight(context, pass.g.matrix(at.router), d.router, x);
    linear_backward_input(context, dx, d.router, pass.w.matrix(at.router));
    for (std::size_t e = 0; e < 2; ++e) {
      const auto w = pass.w.matrix(at.expert[e].gate_up);
      linear_add_backward_input(context, dx, d.expert[e].gate_up, w, dx);
    }
  }

 private:
  static sum_type number(S element) { return static_cast<sum_type>(element); }

  /// y [N, F] = r [N, 2] of an expert, row by row, times x [N, F]
  static void weight(matrix y, matrix r, std::size_t expert, matrix x) {
    for (index_t n = 0; n < y.extent(0); ++n) {
      const sum_type share = number(r(n, static_cast<index_t>(expert)));
      for (index_t f = 0; f < F; ++f) y(n, f) = static_cast<S>(share * number(x(n, f)));
    }
  }
};

template <>
struct mtp::feed_forward_traits<two_experts> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = two_expert_mixture<Config, Backend, S>;
};
