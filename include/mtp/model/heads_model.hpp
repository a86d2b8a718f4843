// A model that has of the trunk only what its head needs: to train the head alone.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "mtp/core/view.hpp"
#include "mtp/model/head_kind.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/transfer.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI {

/// The configuration with the last block only. Its trunk_states are not those of the model; its
/// heads_pass on them is.
constexpr model_config heads_config(model_config config) {
  config.num_hidden_layers = 1;
  config.feed_forward.first_k_dense_replace = 0;
  return config;
}

namespace detail {

/// Embedding, last block, norm and output matrix, as copy_visited wants them.
template <class Layout>
struct trunk_end {
  const Layout& at;

  template <class Visitor>
  void visit(Visitor&& visitor) const {
    visitor("", at.embedding);
    at.last_block().visit("", visitor);
    visitor("", at.norm);
    visitor("", at.output);
  }
};
template <class Layout>
trunk_end(const Layout&) -> trunk_end<Layout>;

}  // namespace detail

/// Copies to a model of heads_config what it has of `from`: embedding, last block, norm, output
/// matrix and the head. Bits and rounding as in copy_parameters.
template <model_config Small, class To, scalar T, model_config Config, class From, scalar F>
void copy_for_heads(language_model<Small, To, T>& to, const language_model<Config, From, F>& from) {
  static_assert(Small == heads_config(Config),
                "copy_for_heads: the first model must have heads_config of the other's "
                "configuration");
  detail::copy_visited(detail::trunk_end{to.trunk_layout()},
                       to.values(),
                       detail::trunk_end{from.trunk_layout()},
                       from.values());
  copy_head(to, from);
}

/// Copies the head of `from` to `to` and leaves the trunk of `to` as it is. Configurations may
/// differ in the number of blocks. Bits and rounding as in copy_parameters.
template <model_config ToConfig, class To, scalar T, model_config FromConfig, class From, scalar F>
void copy_head(language_model<ToConfig, To, T>& to,
               const language_model<FromConfig, From, F>& from) {
  static_assert(heads_config(ToConfig) == heads_config(FromConfig),
                "copy_head: the configurations may differ in the number of blocks only");
  detail::copy_visited(to.head_layout(), to.values(), from.head_layout(), from.values());
}

namespace detail {

/// A block's parameters (=) those of another.
template <class Context, class Array, class Block>
void copy_block(Context& context, const Array& values, const Block& to, const Block& from) {
  std::vector<parameter> places;
  to.visit("", [&](const std::string&, const parameter& p) { places.push_back(p); });
  std::size_t next = 0;
  from.visit("", [&](const std::string&, const parameter& p) {
    copy(context, values.storage(places[next++]), values.storage(p));
  });
}

/// The half of a module's projection that reads the hidden state (=) the identity.
template <class S, class Backend>
void project_hidden_state(parameter_array<S, Backend> values,
                          const parameter& projection,
                          concat_order order) {
  auto host = host_copy(
      parameter_array<const S, Backend>(values.data() + projection.offset, projection.storage));
  const index_t C = projection.outputs;
  const index_t begin = order == concat_order::hidden_first ? 0 : C;
  for (index_t n = 0; n < C; ++n) {
    for (index_t k = begin; k < begin + C; ++k) {
      host[static_cast<std::size_t>(backend_traits<Backend>::template weight_offset<S>(
          n, k, C, 2 * C))] = static_cast<S>(k - begin == n ? 1.0f : 0.0f);
    }
  }
  backend_traits<Backend>::copy_from_host(
      values.data() + projection.offset, host.data(), host.size() * sizeof(S));
}

}  // namespace detail

/// Starts a head from the end of its trunk, which is what a few minutes of training need: every
/// block is the trunk's last, every norm in front of the output matrix the trunk's, every output
/// matrix of its own the trunk's, and the projection of a module passes the hidden state on; what
/// it adds of the embedding stays as it is.
template <model_config Config, class Backend, scalar S>
void start_from_trunk(context<Backend>& context, language_model<Config, Backend, S>& model) {
  constexpr head_kind kind = Config.prediction.kind;
  static_assert(kind == head_kind::sequential || kind == head_kind::recurrent ||
                    kind == head_kind::parallel || kind == head_kind::independent,
                "start_from_trunk: the head kind has nothing that the trunk has");
  const auto values = model.values();
  const auto& trunk = model.trunk_layout();
  const auto& head = model.head_layout();
  if constexpr (kind == head_kind::independent) {
    for (const auto& depth : head.depth) {
      copy(context, values.storage(depth.output), values.storage(trunk.output));
    }
  } else if constexpr (kind == head_kind::parallel) {
    for (std::size_t k = 0; k < head.block.size(); ++k) {
      detail::copy_block(context, values, head.block[k], trunk.last_block());
      if (head.norm[k].exists()) {
        copy(context, values.storage(head.norm[k]), values.storage(trunk.norm));
      }
    }
  } else {
    for (const auto& module : head.parts) {
      detail::project_hidden_state(values, module.projection, Config.prediction.concat);
      detail::copy_block(context, values, module.block, trunk.last_block());
      if (module.output_norm.exists()) {
        copy(context, values.storage(module.output_norm), values.storage(trunk.norm));
      }
    }
  }
}

}  // namespace mtp::inline MTP_ABI
