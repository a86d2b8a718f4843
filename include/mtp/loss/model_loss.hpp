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
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/loss/score_table.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/training_pass.hpp"
#include "mtp/model/vocabulary.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI {

/// Computes losses and gradients of batches of at most B sequences of T positions:
///
///     L_k   = sum over positions i of -log p_k[i, t[i + 1 + k]] / divisor        k = 0 .. D
///     total = sum over k of options.weight(k) L_k
///
/// in nats (DeepSeek-V3, arXiv 2412.19437, equations 24 and 25). p_k = softmax of the logits of
/// depth k. Targets that are masked or belong to another document than t[i] are left out.
/// loss_normalization chooses the divisor: B T, or the number of targets of depth k, counted over
/// all batches of the step if there are several. The object owns the activations; their size is a
/// constexpr of configuration, B and T. A call allocates nothing.
///
/// With a stage_model it is the last stage of a pipeline, which has a part of the trunk.
template <model_config Config,
          class Backend,
          scalar S = float,
          class Model = language_model<Config, Backend, S>>
class model_loss {
 public:
  using model_type = Model;                          ///< the model
  using head_type = head_of<Config, Backend, S>;     ///< its head
  using pass_type = model_pass<Config, Backend, S>;  ///< what a pass carries
  using passes = training_pass<Config, Backend, S>;  ///< trunk and head, forward and backward
  using part_type = typename trunk<Config, Backend, S>::part;  ///< what is run of the trunk
  using matrix = matrix_view<S, Backend>;                      ///< rows of activations
  using sum_type = accumulate_t<S>;                            ///< type of losses and gradients
  using gradient_array = parameter_array<sum_type, Backend>;   ///< one number per parameter
  using counts_type = target_counts<Config.prediction.depth>;  ///< targets of each depth
  /// D + 1.
  static constexpr std::size_t depths = static_cast<std::size_t>(Config.prediction.depth) + 1;
  /// Whether a row of logits is scored against the targets of all depths.
  static constexpr bool one_row_has_all_targets = Config.prediction.kind.one_row_has_all_targets;

  /// Bytes of activations for B sequences of T positions. Throws mtp::error unless both are
  /// positive and the bytes fit into an address space.
  static constexpr index_t activation_bytes(index_t batch,
                                            index_t length,
                                            const part_type& part = {}) {
    return bytes_of(positions_of(batch, length), part);
  }

  /// The most bytes of workspace that the operations of a pass over B sequences of T positions
  /// need. Throws as activation_bytes does.
  static constexpr index_t workspace_bytes(index_t batch, index_t length, index_t threads) {
    const index_t N = positions_of(batch, length);
    const index_t scored = one_row_has_all_targets ? N : index_t{depths} * N;
    const index_t targets = one_row_has_all_targets ? index_t{depths} : 1;
    return (std::max)(
        passes::workspace(N, length, threads),
        vocabulary<Config>::template score_bytes<Backend, S>(scored, targets, threads));
  }

  /// For batches of at most `batch` sequences of `length` positions. Throws mtp::error unless both
  /// are positive and `length` is at most max_position_embeddings, and when memory runs out. `part`
  /// is what is run of the trunk, its norm among it.
  model_loss(context<Backend>& context, index_t batch, index_t length, const part_type& part = {})
      : batch_(batch), length_(length), part_(part) {
    const index_t N = positions_of(batch, length);
    check(length <= Config.max_position_embeddings,
          "model_loss: length ",
          length,
          " exceeds max_position_embeddings ",
          Config.max_position_embeddings);
    vocabulary<Config>::check_ranks("model_loss", context);
    storage_ = buffer<std::byte, Backend>(bytes_of(N, part));
    host_.resize(static_cast<std::size_t>(host_table::bytes(N)));
    context.reserve(workspace_bytes(batch, length, context.threads()));
  }

  /// The largest B.
  index_t batch() const { return batch_; }
  /// T.
  index_t length() const { return length_; }
  /// Bytes of activations.
  index_t bytes() const { return storage_.bytes(); }

  /// If the part of the trunk has no embedding: where the caller puts the stream in front of its
  /// first block before a call with a batch of N positions.  [N, C]
  matrix input(index_t N) { return lay_out(N).pass.trunk.input(); }
  /// Its gradient, after with_gradients.  [N, C]
  matrix input_gradient(index_t N) { return lay_out(N).pass.dstream; }

  /// Computes the losses of a batch and adds the gradient of the total to `gradients` (+=), which
  /// has as many elements as the model stores. Throws mtp::error on wrong sizes, on tokens outside
  /// the vocabulary and on weights that are negative or not finite, before anything is changed.
  ///
  /// If a step adds the gradients of several batches and losses are divided by valid targets, pass
  /// the numbers of targets of all batches (count_targets) as `targets_of_step`: losses and
  /// gradients then add up to those of one large batch. Null: this batch is the whole step.
  ///
  /// If there is an `observer`, the backward pass tells it which gradients are complete; the
  /// results are the same.
  loss_report<Config.prediction.depth> with_gradients(
      context<Backend>& context,
      const model_type& model,
      gradient_array gradients,
      const batch_view& batch,
      const loss_options<Config.prediction.depth>& options,
      const counts_type* targets_of_step = nullptr,
      gradient_observer* observer = nullptr) {
    check(gradients.count() == model.layout.storage,
          "model_loss: expected ",
          model.layout.storage,
          " gradients, got ",
          gradients.count());
    return run(context, model, gradients, batch, options, targets_of_step, observer);
  }

  /// Refuses models that cannot be trained.
  template <detail::inference_only Other>
  loss_report<Config.prediction.depth> with_gradients(context<Backend>&,
                                                      Other&&,
                                                      gradient_array,
                                                      const batch_view&,
                                                      const loss_options<Config.prediction.depth>&,
                                                      const counts_type* = nullptr,
                                                      gradient_observer* = nullptr) {
    static_assert(detail::never<Other>,
                  "model_loss: a quantized_model is for inference and has no gradients; "
                  "scorer in <mtp/decode/score.hpp> gives its losses");
    return {};
  }

  /// Losses of a batch.
  [[nodiscard("model_loss::without_gradients: nothing but the report comes of it")]] loss_report<
      Config.prediction.depth>
  without_gradients(context<Backend>& context,
                    const model_type& model,
                    const batch_view& batch,
                    const loss_options<Config.prediction.depth>& options) {
    return run(context, model, gradient_array(nullptr, 0), batch, options, nullptr, nullptr);
  }

  /// Calls visitor(k, logits [N, V]) for every depth k with logits of its own (only depth 0 if one
  /// row has all targets), in accumulate_t of the elements. The logits are valid until the visitor
  /// returns. For inspection and tests: all logits of a depth exist at once. Throws mtp::error as
  /// with_gradients does; the visitor must not call the same model_loss.
  template <class Visitor>
  void visit_logits(context<Backend>& context,
                    const model_type& model,
                    const batch_view& batch,
                    Visitor&& visitor) {
    const detail::turn working(at_work_, called_from_visitor);
    check_batch(batch);
    const index_t N = batch.batch * batch.length;
    const memory m = lay_out(N);
    const host_table host = table_on_host(N);
    host.fill_tokens(batch);
    send(context, N);
    const pass_type pass = make_pass(context, model, gradient_array(nullptr, 0), m, batch, {});
    tensor<sum_type, dims<2>, Backend> logits(dims<2>{N, Config.vocab_size});  // [N, V]
    context.reserve(vocabulary<Config>::template logits_bytes<Backend, S>(N, context.threads()));
    passes::run(
        pass,
        model.layout,
        m.pass,
        [&](std::size_t first, matrix hidden, matrix, const parameter& output) {
          for (index_t rows = 0; rows < hidden.extent(0); rows += N) {
            vocabulary<Config>::logits(
                context, logits.view(), hidden.slice(0, rows, N), model.values().matrix(output));
            visitor(first + static_cast<std::size_t>(rows / N),
                    matrix_view<const sum_type, Backend>(logits.view()));
          }
        });
  }

 private:
  using table_type = score_table<Config, Backend, sum_type>;
  using host_table = score_table<Config, host_memory, sum_type>;

  static constexpr const char* called_from_visitor =
      "model_loss: called from a visitor of the same model_loss";

  /// All memory of a pass, in one allocation.
  struct memory {
    table_type table;  // first, so that it lies at the beginning
    typename passes::memory pass;

    template <class Arena>
    static constexpr memory make(Arena& arena, index_t N, const part_type& part) {
      const auto table = table_type::make(arena, N);
      return {table, passes::memory::make(arena, N, part)};
    }
  };

  static constexpr index_t bytes_of(index_t N, const part_type& part) {
    return bytes_taken([N, part](arena_plan& plan) { return memory::make(plan, N, part); });
  }

  /// N = B T. Throws where products of N with widths and threads would wrap around.
  static constexpr index_t positions_of(index_t batch, index_t length) {
    constexpr index_t most = (index_t{1} << 48) / bytes_of(1, {});  // processors address 2^48 bytes
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
    return memory::make(whole, N, part_);
  }

  host_table table_on_host(index_t N) {
    arena whole(host_.data(), static_cast<index_t>(host_.size()));
    return host_table::make(whole, N);
  }

  void send(context<Backend>& context, index_t N) {
    backend_traits<Backend>::upload(context,
                                    storage_.data(),
                                    host_.data(),
                                    static_cast<std::size_t>(table_type::given_bytes(N)));
  }

  void receive(context<Backend>& context, index_t N) {
    const index_t begin = table_type::given_bytes(N);
    backend_traits<Backend>::download(context,
                                      host_.data() + begin,
                                      storage_.data() + begin,
                                      static_cast<std::size_t>(table_type::bytes(N) - begin));
  }

  void check_batch(const batch_view& batch) const {
    // By division, because the product of the caller's numbers may not fit into index_t.
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
    check_tokens(batch, Config.prediction.depth, Config.vocab_size);
  }

  pass_type make_pass(context<Backend>& context,
                      const model_type& model,
                      gradient_array gradients,
                      const memory& m,
                      const batch_view& batch,
                      const loss_options<Config.prediction.depth>& options,
                      gradient_observer* observer = nullptr) const {
    return {context,
            model.values(),
            gradients,
            model.rope(),
            batch.batch,
            batch.length,
            m.table.tokens,
            options.scope,
            options.aux_loss_alpha,
            observer,
            m.table.balance};
  }

  loss_report<Config.prediction.depth> run(context<Backend>& context,
                                           const model_type& model,
                                           gradient_array gradients,
                                           const batch_view& batch,
                                           const loss_options<Config.prediction.depth>& options,
                                           const counts_type* targets_of_step,
                                           gradient_observer* observer) {
    const detail::default_environment scope;
    const detail::turn working(at_work_, called_from_visitor);
    check_batch(batch);
    options.validate("model_loss");
    const index_t N = batch.batch * batch.length;
    const memory m = lay_out(N);
    const host_table host = table_on_host(N);
    host.fill_tokens(batch);
    counts_type valid{};
    count_targets<Config.prediction.depth>(valid, batch);
    const counts_type& divided_by = targets_of_step != nullptr ? *targets_of_step : valid;
    host.fill_targets(batch, options, divided_by);
    send(context, N);
    if constexpr (table_type::has_experts) {
      fill(context, m.table.balance, 0.0);
    }
    const pass_type pass = make_pass(context, model, gradients, m, batch, options, observer);
    passes::run(pass,
                model.layout,
                m.pass,
                [&](std::size_t first, matrix hidden, matrix dhidden, const parameter& output) {
                  const index_t begin =
                      one_row_has_all_targets ? 0 : static_cast<index_t>(first) * N;
                  const index_t rows = hidden.extent(0);
                  const auto losses = m.table.losses.slice(0, begin, rows);
                  const auto targets = m.table.targets.slice(0, begin, rows);
                  const auto predicted = m.table.predicted.slice(0, begin, rows);
                  const auto w = pass.w.matrix(output);
                  if (!pass.wants_gradients()) {
                    vocabulary<Config>::score_alone(context, losses, predicted, hidden, w, targets);
                    return;
                  }
                  const bool own = output.offset >= model.layout.head_begin;
                  const bool reached =
                      own || (pass.trains_trunk() && (first == 0 || pass.heads_reach_trunk()));
                  vocabulary<Config>::score(context,
                                            losses,
                                            predicted,
                                            dhidden,
                                            pass.shared_matrix(output, reached),
                                            hidden,
                                            w,
                                            targets,
                                            m.table.weights.slice(0, begin, rows));
                });
    receive(context, N);
    return host.summarize(N, options, valid, divided_by);
  }

  index_t batch_;
  index_t length_;
  part_type part_;
  buffer<std::byte, Backend> storage_;
  std::vector<std::byte> host_;  // what is exchanged with the storage
  bool at_work_ = false;
};

}  // namespace mtp::inline MTP_ABI
