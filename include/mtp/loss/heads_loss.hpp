// The loss of a head that is trained without its trunk, on hidden states.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/heads_memory.hpp"
#include "mtp/loss/heads_report.hpp"
#include "mtp/loss/heads_targets.hpp"
#include "mtp/model/draft_vocabulary.hpp"
#include "mtp/model/heads_pass.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::inline MTP_ABI {

/// Computes losses and gradients of the depths 1 .. D on hidden states of the trunk:
///
///     L_k   = mean over the targets of depth k of -log q_k[i, target], or of distillation's loss
///     total = sum over k of options.weights[k] L_k
///
/// q_k is the softmax of the logits of depth k over the draft vocabulary, if there is one; a target
/// outside of it is a draft that is not accepted, and has no loss. Only parameters of the head get
/// gradients. Output matrices of the head's own are trained without a draft vocabulary only. A call
/// allocates nothing on the backend.
template <model_config Config, class Backend, real S = float>
class heads_loss {
  static_assert(is_whole<Config>,
                "heads_loss: ranks have parts of this model (tensor_parallel_size); "
                "gather_parameters in <mtp/model/divide.hpp> makes a whole one of them");
  static_assert(Config.prediction.kind.parameters != head_parameters::none,
                "heads_loss: the head kind has no parameters");

 public:
  using model_type = language_model<Config, Backend, S>;         ///< the model
  using vocabulary_type = draft_vocabulary<Config, Backend, S>;  ///< a part of its vocabulary
  using passes = heads_pass<Config, Backend, S>;                 ///< the head, both ways
  using pass_type = model_pass<Config, Backend, S>;              ///< what a pass carries
  using matrix = matrix_view<S, Backend>;                        ///< rows of activations
  using gradient_array = parameter_array<S, Backend>;            ///< one number per parameter
  using report_type = heads_report<Config.prediction.depth>;     ///< the result
  using options_type = heads_options<Config.prediction.depth>;   ///< weights, and which loss

  /// For batches of at most `batch` sequences of `length` positions. The vocabulary may be null:
  /// all of it; it must outlive the object. Without `distils`, there is no memory for the logits
  /// that distillation keeps. Throws mtp::error unless both numbers are positive and `length` is at
  /// most max_position_embeddings, and when memory runs out.
  heads_loss(context<Backend>& context,
             index_t batch,
             index_t length,
             vocabulary_type* vocabulary = nullptr,
             bool distils = false)
      : rows_(batch * length),
        length_(length),
        vocabulary_(vocabulary),
        distils_(distils),
        targets_(Config.vocab_size,
                 vocabulary == nullptr ? std::span<const token_t>() : vocabulary->tokens()) {
    check(batch > 0 && length > 0 && length <= Config.max_position_embeddings,
          "heads_loss: expected a positive batch and a length in [1, ",
          Config.max_position_embeddings,
          "], got ",
          batch,
          " and ",
          length);
    storage_ = buffer<std::byte, Backend>(bytes_taken([this](arena_plan& plan) {
      return memory::make(plan, rows_, vocabulary_size(), distils_);
    }));
    using ops = ops_of<Backend>;
    const index_t C = Config.hidden_size, V = Config.vocab_size, threads = context.threads();
    context.reserve(
        (std::max)({passes::workspace(rows_, length, threads),
                    ops::template linear_cross_entropy_workspace<S>(
                        Config.prediction.depth * rows_, V, C, threads),
                    ops::template linear_workspace<S>(rows_, vocabulary_size(), C, threads),
                    ops::template row_workspace<S>(rows_, vocabulary_size(), threads)}));
  }

  /// Tokens that drafts are chosen from.
  index_t vocabulary_size() const {
    return vocabulary_ == nullptr ? Config.vocab_size : vocabulary_->size();
  }

  /// Where the caller puts what trunk_states gave for the positions of a batch, in front of a call
  /// with that batch.  [B T, C]. Throws mtp::error for more positions than there is room for.
  matrix hidden(index_t batch, index_t length) {
    check(batch > 0 && length > 0 && length <= length_ && batch <= rows_ / length,
          "heads_loss: a batch of ",
          batch,
          " x ",
          length,
          " does not fit into ",
          rows_,
          " positions of sequences of at most ",
          length_);
    return lay_out(batch * length).pass.stream;
  }

  /// Computes the losses of a batch and adds the gradient of the total to `gradients` (+=), which
  /// has as many elements as the model stores. Throws mtp::error on wrong sizes, on tokens outside
  /// the vocabulary, on weights and shares that are not, and for distillation without memory for
  /// it, before anything is changed.
  report_type with_gradients(context<Backend>& context,
                             const model_type& model,
                             gradient_array gradients,
                             const heads_batch& batch,
                             const options_type& options) {
    check(gradients.count() == model_type::layout.storage,
          "heads_loss: expected ",
          model_type::layout.storage,
          " gradients, got ",
          gradients.count());
    return run(context, model, gradients, batch, options);
  }

  /// Losses of a batch.
  report_type without_gradients(context<Backend>& context,
                                const model_type& model,
                                const heads_batch& batch,
                                const options_type& options) {
    return run(context, model, gradient_array(nullptr, 0), batch, options);
  }

  /// The tokens that the trunk itself chooses behind each position, of all tokens.  [B T]. Throws
  /// as with_gradients does.
  std::vector<token_t> choices(context<Backend>& context,
                               const model_type& model,
                               const batch_view& text) {
    const detail::default_environment scope;
    const index_t N = checked_rows(text);
    const memory m = lay_out(N);
    targets_.fill_none(N);
    send(context, m);
    passes::run(pass_of(context, model, gradient_array(nullptr, 0), m, text),
                m.pass,
                [&](std::size_t first, matrix rows, matrix, const parameter& output) {
                  if (first > 0) return;
                  linear_cross_entropy_forward(context,
                                               as_column(m.losses.slice(0, 0, N)),
                                               m.predicted.slice(0, 0, N),
                                               rows.slice(0, 0, N),
                                               model.values().matrix(output),
                                               as_column(m.targets.slice(0, 0, N)));
                });
    std::vector<token_t> chosen(static_cast<std::size_t>(N));
    backend_traits<Backend>::download(
        context, chosen.data(), m.predicted.data(), chosen.size() * sizeof(token_t));
    return chosen;
  }

 private:
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);

  using memory = detail::heads_memory<Config, Backend, S>;
  template <class Element>
  using vector = vector_view<Element, Backend>;

  memory lay_out(index_t N) {
    arena whole(storage_.data(), storage_.count());
    return memory::make(whole, N, vocabulary_size(), distils_);
  }

  static matrix as_column(const vector<S>& x) { return {x.data(), {x.extent(0), 1}}; }
  static matrix_view<const token_t, Backend> as_column(const vector<token_t>& x) {
    return {x.data(), {x.extent(0), 1}};
  }

  index_t checked_rows(const batch_view& text) {
    const index_t N = hidden(text.batch, text.length).extent(0);
    check_tokens(text, Config.prediction.depth, Config.vocab_size);
    targets_.fill_tokens(text, static_cast<index_t>(D));
    return N;
  }

  void send(context<Backend>& context, const memory& m) {
    const auto put = [&](auto* to, const auto& from) {
      backend_traits<Backend>::upload(context, to, from.data(), from.size() * sizeof(from[0]));
    };
    put(m.tokens.data(), targets_.tokens());
    put(m.targets.data(), targets_.targets());
    put(m.weights.data(), targets_.template weights<S>());
  }

  pass_type pass_of(context<Backend>& context,
                    const model_type& model,
                    gradient_array gradients,
                    const memory& m,
                    const batch_view& text) const {
    return {context,
            model.values(),
            gradients,
            model.rope(),
            text.batch,
            text.length,
            m.tokens,
            gradient_scope::heads_only};
  }

  report_type run(context<Backend>& context,
                  const model_type& model,
                  gradient_array gradients,
                  const heads_batch& batch,
                  const options_type& options) {
    const detail::default_environment scope;
    options.validate();
    check(distils_ || !options.distils,
          "heads_loss: distillation needs memory that the constructor was not asked for");
    const index_t N = checked_rows(batch.text), T = batch.text.length;
    const memory m = lay_out(N);
    targets_.template fill_targets<S>(batch, options);
    send(context, m);
    const pass_type pass = pass_of(context, model, gradients, m, batch.text);
    passes::run(
        pass, m.pass, [&](std::size_t first, matrix rows, matrix drows, const parameter& output) {
          const index_t skipped = first == 0 ? N : 0;  // rows of depth 0
          if (first == 0 && options.distils) {
            prepare(pass, m, rows.slice(0, 0, N), output);
          }
          const index_t count = rows.extent(0) - skipped;
          if (count == 0) return;
          const index_t begin = first == 0 ? 0 : (static_cast<index_t>(first) - 1) * N;
          rows = rows.slice(0, skipped, count);
          drows = drows.slice(0, skipped, count);
          if (!options.distils) {
            cross_entropy(pass, m, begin, rows, drows, output);
            return;
          }
          for (index_t row = 0; row < count; row += N) {
            distil(pass,
                   m,
                   (begin + row) / N + 1,
                   T,
                   rows.slice(0, row, N),
                   drows.slice(0, row, N),
                   output,
                   options);
          }
        });
    return receive(context, m, options);
  }

  /// The output matrix, or the rows of it that are in the draft vocabulary.  [R, C]
  weight_view<const S, Backend> part_of(parameter_array<const S, Backend> values,
                                        const parameter& output) const {
    return vocabulary_ == nullptr ? values.matrix(output) : vocabulary_->rows(output);
  }
  /// Its gradient, if it is the head's own and trained.
  weight_view<S, Backend> gradient_of(const pass_type& pass, const parameter& output) const {
    const bool own = output.offset >= model_type::layout.head_begin;
    return own && vocabulary_ == nullptr
               ? pass.g.matrix(output)
               : weight_view<S, Backend>(nullptr, vocabulary_size(), Config.hidden_size);
  }

  void cross_entropy(const pass_type& pass,
                     const memory& m,
                     index_t begin,
                     matrix rows,
                     matrix drows,
                     const parameter& output) {
    const index_t count = rows.extent(0);
    const auto losses = as_column(m.losses.slice(0, begin, count));
    const auto predicted = m.predicted.slice(0, begin, count);
    const auto targets = as_column(m.targets.slice(0, begin, count));
    const auto w = part_of(pass.w, output);
    if (!pass.wants_gradients()) {
      linear_cross_entropy_forward(pass.context, losses, predicted, rows, w, targets);
      return;
    }
    linear_cross_entropy(pass.context,
                         losses,
                         predicted,
                         drows,
                         gradient_of(pass, output),
                         rows,
                         w,
                         targets,
                         as_column(m.weights.slice(0, begin, count)));
  }

  /// The trunk's distributions behind all positions.
  void prepare(const pass_type& pass, const memory& m, matrix rows, const parameter& output) {
    linear_forward(pass.context, m.trunk, rows, part_of(pass.w, output));
    m.distil.prepare(pass.context, m.trunk, m.entropy);
  }

  /// Depth k at position i against the trunk at position i + k, sequence by sequence; the last k
  /// positions of a sequence have no such row.
  void distil(const pass_type& pass,
              const memory& m,
              index_t k,
              index_t T,
              matrix rows,
              matrix drows,
              const parameter& output,
              const options_type& options) {
    auto& context = pass.context;
    const index_t N = rows.extent(0), begin = (k - 1) * N, valid = (std::max<index_t>)(T - k, 0);
    const auto share = static_cast<S>(options.shares[static_cast<std::size_t>(k)]);
    linear_forward(context, m.draft, rows, part_of(pass.w, output));
    predict(context, m.predicted.slice(0, begin, N), m.draft);
    for (index_t row = 0; row < N; row += T) {
      const auto of = [&](const auto& list) { return list.slice(0, begin + row, valid); };
      const matrix z = m.draft.slice(0, row, valid);
      const auto p = m.trunk.slice(0, row + T - valid, valid);
      if (valid > 0) {
        m.distil.score(context,
                       of(m.losses),
                       of(m.overlaps),
                       z,
                       p,
                       m.entropy.slice(0, row + T - valid, valid),
                       share);
      }
      if (valid > 0 && pass.wants_gradients()) {
        m.distil.gradient(context, z, p, of(m.weights), share);
      }
      fill(context, m.draft.slice(0, row + valid, T - valid), S{0});
      fill(context, m.losses.slice(0, begin + row + valid, T - valid), S{0});
      fill(context, m.overlaps.slice(0, begin + row + valid, T - valid), S{0});
    }
    if (!pass.wants_gradients()) return;
    linear_backward_input(context, drows, m.draft, part_of(pass.w, output));
    const auto dw = gradient_of(pass, output);
    if (dw.data != nullptr) {
      linear_backward_weight(context, dw, m.draft, rows);
    }
  }

  report_type receive(context<Backend>& context, const memory& m, const options_type& options) {
    const auto all = static_cast<std::size_t>(m.losses.extent(0));
    std::vector<S> losses(all), overlaps(options.distils ? all : 0);
    std::vector<token_t> predicted(all);
    const auto get = [&](auto& to, const auto& from) {
      backend_traits<Backend>::download(context, to.data(), from.data(), to.size() * sizeof(to[0]));
    };
    get(losses, m.losses);
    get(overlaps, m.overlaps);
    get(predicted, m.predicted);
    return targets_.template summarize<Config.prediction.depth, S>(
        options, losses, overlaps, predicted);
  }

  index_t rows_;
  index_t length_;
  vocabulary_type* vocabulary_;
  bool distils_;
  detail::heads_targets targets_;
  buffer<std::byte, Backend> storage_;
};

}  // namespace mtp::inline MTP_ABI
