// The loss of a model over a batch, for all depths, with or without gradients.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// Computes losses and gradients of batches of at most B sequences of T positions:
///
///     L_k   = sum over positions i of -log p_k[i, t[i + 1 + k]] / divisor        k = 0 .. D
///     total = sum over k of options.weight(k) L_k
///
/// in nats (DeepSeek-V3, arXiv 2412.19437, equations 24 and 25). p_k = softmax of the logits of
/// depth k; targets that are masked or stand in another document than t[i] are left out;
/// loss_normalization chooses the divisor: B T, or the targets of depth k, of all batches whose
/// gradients make a step where there are several. Holds the activations; the size of that memory is
/// a constexpr of configuration, B and T. A call allocates nothing.
template <model_config Config, class Backend, scalar S = float>
class model_loss {
 public:
  using model_type = language_model<Config, Backend, S>;  ///< the model whose loss it is
  using head_type = head_of<Config, Backend, S>;          ///< its head
  using pass_type = model_pass<Config, Backend, S>;       ///< what a pass carries
  using matrix = matrix_view<S, Backend>;                 ///< rows of activations
  using sum_type = accumulate_t<S>;                       ///< what losses and gradients are kept in
  using gradient_array = parameter_array<sum_type, Backend>;  ///< one number per parameter
  using counts_type = target_counts<Config.depth>;            ///< targets of each depth
  /// D + 1.
  static constexpr std::size_t depths = static_cast<std::size_t>(Config.depth) + 1;
  /// Whether a row of logits is scored against the targets of all depths.
  static constexpr bool one_row_has_all_targets = Config.head.one_row_has_all_targets;

  /// Bytes of activations for B sequences of T positions. Throws mtp::error unless both are
  /// positive and the bytes are fewer than an address space has.
  static constexpr index_t activation_bytes(index_t batch, index_t length) {
    return bytes_of(positions_of(batch, length));
  }

  /// Bytes of workspace that the operations of a pass over B sequences of T positions want at most.
  /// Throws as activation_bytes.
  static constexpr index_t workspace_bytes(index_t batch, index_t length, index_t threads) {
    using ops = ops_of<Backend>;
    const index_t C = Config.hidden_size, F = Config.intermediate_size, V = Config.vocab_size;
    const index_t N = positions_of(batch, length);
    const index_t scored = one_row_has_all_targets ? N : index_t{depths} * N;
    const index_t HE = Config.query_size(), GE = Config.key_value_size();
    index_t bytes = ops::template linear_cross_entropy_workspace<S>(scored, V, C, threads);
    for (const auto& [outputs, inputs] :
         {std::array<index_t, 2>{Config.qkv_size(), C}, {C, HE}, {2 * F, C}, {C, F}, {C, C}}) {
      bytes = (std::max)(bytes, ops::template linear_workspace<S>(N, outputs, inputs, threads));
    }
    for (const index_t other :
         {ops::template attention_workspace<S>(N, length, HE, GE, Config.head_width(), threads),
          ops::template combine_workspace<S>(N, C, C, V, threads),
          ops::template embedding_workspace<S>(N, V, C, threads),
          ops::template row_workspace<S>(N, (std::max)({C, 2 * F, Config.qkv_size()}), threads)}) {
      bytes = (std::max)(bytes, other);
    }
    return bytes;
  }

  /// For batches of at most `batch` sequences of `length` positions. Throws mtp::error unless both
  /// are positive and `length` is at most max_positions, and where memory is used up.
  model_loss(context<Backend>& context, index_t batch, index_t length)
      : batch_(batch), length_(length) {
    const index_t N = positions_of(batch, length);
    check(length <= Config.max_positions,
          "model_loss: length ",
          length,
          " exceeds max_positions ",
          Config.max_positions);
    storage_ = buffer<std::byte, Backend>(bytes_of(N));
    host_.resize(static_cast<std::size_t>(exchange<host_memory>::bytes(N)));
    context.reserve(workspace_bytes(batch, length, context.threads()));
  }

  /// B, at most.
  index_t batch() const { return batch_; }
  /// T.
  index_t length() const { return length_; }

  /// Losses of a batch; `gradients` (as many elements as the model stores) receive += the gradient
  /// of the total. Throws mtp::error on wrong sizes, on tokens outside the vocabulary and on
  /// weights that are negative or not finite, before anything is changed.
  ///
  /// Where a step adds up the gradients of several batches and losses are divided by valid targets,
  /// `targets_of_step` has the targets of all of them (count_targets): gradients and losses are
  /// then shares that add up to those of one large batch. Null: the batch is all there is.
  loss_report<Config.depth> with_gradients(context<Backend>& context,
                                           const model_type& model,
                                           gradient_array gradients,
                                           const batch_view& batch,
                                           const loss_options<Config.depth>& options,
                                           const counts_type* targets_of_step = nullptr) {
    check(gradients.count() == model_type::layout.storage,
          "model_loss: expected ",
          model_type::layout.storage,
          " gradients, got ",
          gradients.count());
    return run(context, model, gradients, batch, options, targets_of_step);
  }

  /// Losses of a batch.
  [[nodiscard("model_loss::without_gradients: nothing but the report comes of it")]] loss_report<
      Config.depth>
  without_gradients(context<Backend>& context,
                    const model_type& model,
                    const batch_view& batch,
                    const loss_options<Config.depth>& options) {
    return run(context, model, gradient_array(nullptr, 0), batch, options, nullptr);
  }

  /// visitor(k, logits [N, V]) for every depth k that has logits of its own (depth 0
  /// alone where one row has all targets), in accumulate_t of the elements; the logits live until
  /// the visitor returns. For inspection and tests: here all logits of a depth exist at a time.
  /// Throws mtp::error as with_gradients; the visitor may not call the same model_loss.
  template <class Visitor>
  void visit_logits(context<Backend>& context,
                    const model_type& model,
                    const batch_view& batch,
                    Visitor&& visitor) {
    const detail::turn working(at_work_, called_from_visitor);
    check_batch(batch);
    const index_t N = batch.batch * batch.length;
    const memory m = lay_out(N);
    const exchange<host_memory> host = host_exchange(N);
    fill_tokens(host, batch);
    send(context, N);
    const pass_type pass =
        make_pass(context, model, gradient_array(nullptr, 0), m, batch, gradient_scope::joint);
    tensor<sum_type, dims<2>, Backend> logits(dims<2>{N, Config.vocab_size});  // [N, V]
    forward_and_score(
        pass, m, [&](std::size_t first, matrix hidden, matrix, const parameter& output) {
          for (index_t rows = 0; rows < hidden.extent(0); rows += N) {
            linear_forward(
                context, logits.view(), hidden.slice(0, rows, N), model.values().matrix(output));
            visitor(first + static_cast<std::size_t>(rows / N),
                    matrix_view<const sum_type, Backend>(logits.view()));
          }
        });
  }

 private:
  static constexpr const char* called_from_visitor =
      "model_loss: called from a visitor of the same model_loss";

  /// What host and backend exchange: what a pass is given, then what it gives. The same bytes on
  /// both sides.
  template <class Where>
  struct exchange {
    view<token_t, dims<2>, Where> tokens;   // [D + 1, N]: row k holds t[i + k]
    matrix_view<token_t, Where> targets;    // [(D + 1) N, 1], or [N, D + 1]: all of a row
    matrix_view<sum_type, Where> weights;   // as targets
    matrix_view<sum_type, Where> losses;    // as targets
    vector_view<token_t, Where> predicted;  // [(D + 1) N], or [N]

    template <class Arena>
    static constexpr exchange make(Arena& arena, index_t N) {
      const index_t D1 = static_cast<index_t>(depths), all = D1 * N;
      const dims<2> shape = one_row_has_all_targets ? dims<2>{N, D1} : dims<2>{all, 1};
      const view<token_t, dims<2>, Where> tokens(arena.template take<token_t>(all), {D1, N});
      const matrix_view<token_t, Where> targets(arena.template take<token_t>(all), shape);
      const matrix_view<sum_type, Where> weights(arena.template take<sum_type>(all), shape);
      const matrix_view<sum_type, Where> losses(arena.template take<sum_type>(all), shape);
      return {tokens,
              targets,
              weights,
              losses,
              {arena.template take<token_t>(shape[0]), dims<1>{shape[0]}}};
    }

    static constexpr index_t bytes(index_t N) {
      arena_plan plan;
      static_cast<void>(make(plan, N));
      return plan.bytes();
    }
    /// Of these, what the pass is given.
    static constexpr index_t given_bytes(index_t N) {
      const index_t all = static_cast<index_t>(depths) * N;
      return 2 * arena_bytes(all, sizeof(token_t)) + arena_bytes(all, sizeof(sum_type));
    }
  };

  /// Everything that a pass keeps, laid out in one piece of memory.
  struct memory {
    exchange<Backend> io;  // first, so that it lies at the beginning
    trunk_activations<Config, Backend, S> trunk;
    block_gradients<Config, Backend, S> gradients;
    vector_view<sum_type, Backend> inv_final;  // [N]
    matrix dstream;                            // [N, C]
    typename head_type::activations head;

    template <class Arena>
    static constexpr memory make(Arena& arena, index_t N) {
      const auto io = exchange<Backend>::make(arena, N);
      const auto trunk = trunk_activations<Config, Backend, S>::make(arena, N);
      const auto gradients = block_gradients<Config, Backend, S>::make(arena, N);
      const vector_view<sum_type, Backend> inv_final(arena.template take<sum_type>(N), dims<1>{N});
      const matrix dstream(arena.template take<S>(N * Config.hidden_size), {N, Config.hidden_size});
      return {io,
              trunk,
              gradients,
              inv_final,
              dstream,
              head_type::activations::make(arena, N, gradients)};
    }
  };

  static constexpr index_t bytes_of(index_t N) {
    arena_plan plan;
    static_cast<void>(memory::make(plan, N));
    return plan.bytes();
  }

  /// N = B T, refused where products of N with widths and threads would wrap around.
  static constexpr index_t positions_of(index_t batch, index_t length) {
    constexpr index_t most = (index_t{1} << 48) / bytes_of(1);  // processors address 2^48 bytes
    check(batch > 0 && length > 0,
          "model_loss: expected a positive batch and length, got ",
          batch,
          " and ",
          length);
    check(length <= most / batch,
          "model_loss: ",
          batch,
          " sequences of ",
          length,
          " positions do not fit into memory");
    return batch * length;
  }

  memory lay_out(index_t N) {
    arena whole(storage_.data(), storage_.count());
    return memory::make(whole, N);
  }

  exchange<host_memory> host_exchange(index_t N) {
    arena whole(host_.data(), static_cast<index_t>(host_.size()));
    return exchange<host_memory>::make(whole, N);
  }

  void send(context<Backend>& context, index_t N) {
    backend_traits<Backend>::upload(context,
                                    storage_.data(),
                                    host_.data(),
                                    static_cast<std::size_t>(exchange<Backend>::given_bytes(N)));
  }

  void receive(context<Backend>& context, index_t N) {
    const index_t begin = exchange<Backend>::given_bytes(N);
    backend_traits<Backend>::download(
        context,
        host_.data() + begin,
        storage_.data() + begin,
        static_cast<std::size_t>(exchange<Backend>::bytes(N) - begin));
  }

  void check_batch(const batch_view& batch) const {
    // By division: the product of what a caller gives may not fit into index_t.
    check(batch.batch > 0 && batch.length > 0 && batch.length <= length_ &&
              batch.batch <= batch_ * length_ / batch.length,
          "model_loss: a batch of ",
          batch.batch,
          " x ",
          batch.length,
          " does not fit into ",
          batch_,
          " x ",
          length_);
    check_tokens(batch, Config.depth, Config.vocab_size);
  }

  void fill_tokens(const exchange<host_memory>& host, const batch_view& batch) const {
    const index_t T = batch.length, row = T + static_cast<index_t>(depths);
    for (std::size_t k = 0; k < depths; ++k) {
      for (index_t b = 0; b < batch.batch; ++b) {
        const auto from = batch.tokens.subspan(static_cast<std::size_t>(b * row) + k,
                                               static_cast<std::size_t>(T));
        std::copy(from.begin(), from.end(), &host.tokens(static_cast<index_t>(k), b * T));
      }
    }
  }

  pass_type make_pass(context<Backend>& context,
                      const model_type& model,
                      gradient_array gradients,
                      const memory& m,
                      const batch_view& batch,
                      gradient_scope scope) const {
    return {context,
            model.values(),
            gradients,
            model.rope(),
            batch.batch,
            batch.length,
            m.io.tokens,
            scope};
  }

  /// Runs trunk and head; with gradients, their backward passes as well.
  template <class Score>
  void forward_and_score(const pass_type& pass, const memory& m, Score&& score) {
    using trunk_type = trunk<Config, Backend, S>;
    constexpr auto& at = model_type::layout;
    const index_t N = pass.rows();
    trunk_type::forward(pass, at.trunk, m.trunk);
    if constexpr (!Config.head.owns_last_block) {
      rms_norm_forward(pass.context,
                       head_type::next_token_rows(m.head, N),
                       m.inv_final,
                       m.trunk.output(),
                       pass.w.vector(at.trunk.norm),
                       Config.epsilon());
    }
    const bool written =
        head_type::run(pass, at.head, at.trunk, m.head, m.trunk.output(), m.dstream, score);
    if (!pass.wants_gradients() || !pass.trains_trunk()) {
      return;
    }
    if constexpr (!Config.head.owns_last_block) {
      rms_norm_backward(pass.context,
                        m.dstream,
                        pass.g.vector(at.trunk.norm),
                        m.head.dhidden.slice(0, 0, N),
                        m.trunk.output(),
                        m.inv_final,
                        pass.w.vector(at.trunk.norm),
                        written ? matrix_view<const S, Backend>(m.dstream) : pass_type::no_rows());
    }
    trunk_type::backward(pass, at.trunk, m.trunk, m.gradients, m.dstream);
  }

  loss_report<Config.depth> run(context<Backend>& context,
                                const model_type& model,
                                gradient_array gradients,
                                const batch_view& batch,
                                const loss_options<Config.depth>& options,
                                const counts_type* targets_of_step) {
    const detail::default_environment scope;
    const detail::turn working(at_work_, called_from_visitor);
    check_batch(batch);
    options.validate("model_loss");
    const index_t N = batch.batch * batch.length;
    const memory m = lay_out(N);
    const exchange<host_memory> host = host_exchange(N);
    fill_tokens(host, batch);
    counts_type valid{};
    count_targets<Config.depth>(valid, batch);
    const counts_type& divided_by = targets_of_step != nullptr ? *targets_of_step : valid;
    fill_targets(host, batch, options, divided_by);
    send(context, N);
    const pass_type pass = make_pass(context, model, gradients, m, batch, options.scope);
    forward_and_score(
        pass, m, [&](std::size_t first, matrix hidden, matrix dhidden, const parameter& output) {
          const index_t begin = one_row_has_all_targets ? 0 : static_cast<index_t>(first) * N;
          const index_t rows = hidden.extent(0);
          const auto losses = m.io.losses.slice(0, begin, rows);
          const auto targets = m.io.targets.slice(0, begin, rows);
          const auto predicted = m.io.predicted.slice(0, begin, rows);
          const auto w = pass.w.matrix(output);
          if (!pass.wants_gradients()) {
            linear_cross_entropy_forward(context, losses, predicted, hidden, w, targets);
            return;
          }
          const bool own = output.offset >= model_type::layout.head_begin;
          const bool reached =
              own || (pass.trains_trunk() && (first == 0 || pass.heads_reach_trunk()));
          linear_cross_entropy(context,
                               losses,
                               predicted,
                               dhidden,
                               pass.shared_matrix(output, reached),
                               hidden,
                               w,
                               targets,
                               m.io.weights.slice(0, begin, rows));
        });
    receive(context, N);
    return summarize(host, N, options, valid, divided_by);
  }

  /// The place of target k of row n: in its own row, or in the row that all depths share.
  static std::array<index_t, 2> place(std::size_t k, index_t n, index_t N) {
    if constexpr (one_row_has_all_targets) {
      return {n, static_cast<index_t>(k)};
    } else {
      return {static_cast<index_t>(k) * N + n, 0};
    }
  }

  /// The target of depth k at position i is t[i + 1 + k], if it is not masked and stands in the
  /// document of t[i].
  void fill_targets(const exchange<host_memory>& host,
                    const batch_view& batch,
                    const loss_options<Config.depth>& options,
                    const counts_type& divided_by) const {
    const index_t T = batch.length, N = batch.batch * T, row = T + static_cast<index_t>(depths);
    for (std::size_t k = 0; k < depths; ++k) {
      for (index_t n = 0; n < N; ++n) {
        const auto here = static_cast<std::size_t>(n / T * row + n % T);
        const std::size_t there = here + 1 + k;
        const auto [r, j] = place(k, n, N);
        host.targets(r, j) = is_target(batch, here, there) ? batch.tokens[there] : token_t{-1};
      }
      // Depths that share their logits have nothing but the trunk to train.
      const bool trains =
          k == 0 || !one_row_has_all_targets || options.scope == gradient_scope::joint;
      const auto weight =
          trains ? static_cast<sum_type>(options.weight(k) / divisor(divided_by[k], N, options))
                 : sum_type{0};
      for (index_t n = 0; n < N; ++n) {
        const auto [r, j] = place(k, n, N);
        host.weights(r, j) = weight;
      }
    }
  }

  static double divisor(index_t valid, index_t N, const loss_options<Config.depth>& options) {
    return static_cast<double>(
        options.normalization == loss_normalization::positions ? N : (std::max<index_t>)(valid, 1));
  }

  static loss_report<Config.depth> summarize(const exchange<host_memory>& host,
                                             index_t N,
                                             const loss_options<Config.depth>& options,
                                             const counts_type& valid,
                                             const counts_type& divided_by) {
    loss_report<Config.depth> report;
    for (std::size_t k = 0; k < depths; ++k) {
      depth_report& depth = report.depths[k];
      depth.targets = valid[k];
      double sum = 0;
      for (index_t n = 0; n < N; ++n) {
        const auto [r, j] = place(k, n, N);
        sum += static_cast<double>(host.losses(r, j));
        const token_t target = host.targets(r, j);
        depth.agreed += target >= 0 && host.predicted(r) == target ? 1 : 0;
      }
      depth.loss = sum / divisor(divided_by[k], N, options);
      depth.count_agreement();
      report.total += options.weight(k) * depth.loss;
    }
    return report;
  }

  index_t batch_;
  index_t length_;
  buffer<std::byte, Backend> storage_;
  std::vector<std::byte> host_;  // what is exchanged with the storage
  bool at_work_ = false;
};

}  // namespace mtp::inline MTP_ABI
