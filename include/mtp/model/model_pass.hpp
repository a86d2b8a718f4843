// The state of a pass over whole sequences, which all layers receive.
#pragma once

#include <cstddef>

#include "mtp/core/backend.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// Which parameters the losses train.
enum class gradient_scope {
  joint,       ///< all losses train all parameters
  detached,    ///< the losses of depths >= 1 train the head's parameters only; the next-token loss
               ///< trains the trunk
  heads_only,  ///< the trunk is frozen: only the head's parameters get gradients
};

/// Is told, during a backward pass, which gradients are complete.
class gradient_observer {
 public:
  /// The pass adds nothing more to gradients at offsets >= `begin`, which never rises between
  /// calls; in the last call it is 0. The operations that compute these gradients have been
  /// submitted to the context, which on the CPU means that they have ended. What it throws ends the
  /// pass.
  virtual void finished(index_t begin) = 0;

 protected:
  ~gradient_observer() = default;
};

/// A pass over B sequences of T positions, N = B T rows. Row n = b T + i is position i of sequence
/// b.
template <model_config Config, class Backend, scalar S>
struct model_pass {
  /// Type of sums, norms and gradients of parameters.
  using sum_type = accumulate_t<S>;

  mtp::context<Backend>& context;                ///< what operations run on
  parameter_array<const S, Backend> w;           ///< values of all parameters
  parameter_array<sum_type, Backend> g;          ///< their gradients (+=); no data: not wanted
  matrix_view<const sum_type, Backend> rope;     ///< rotary table  [P, E]
  index_t batch;                                 ///< B
  index_t length;                                ///< T
  view<const token_t, dims<2>, Backend> tokens;  ///< row k holds t[i + k]  [D + 1, N]
  gradient_scope scope = gradient_scope::joint;  ///< which parameters the losses train
  double aux_loss_alpha = 0;                     ///< factor of the balance of experts
  gradient_observer* observer = nullptr;  ///< learns which gradients are complete; may be null
  /// What each row adds to the loss of that balance (+=), of all routers; no data: not wanted.  [N]
  vector_view<double, Backend> balance{nullptr, dims<1>{0}};

  /// N = B T
  index_t rows() const { return batch * length; }
  /// The tokens t[i + k] of all rows. [N]
  vector_view<const token_t, Backend> tokens_at(std::size_t k) const {
    return tokens.select(0, static_cast<index_t>(k));
  }
  /// Whether there is a backward pass.
  bool wants_gradients() const { return g.data() != nullptr; }
  /// Whether losses of depths >= 1 train what the head shares with the trunk.
  bool heads_reach_trunk() const { return scope == gradient_scope::joint; }
  /// Whether the trunk gets gradients.
  bool trains_trunk() const { return scope != gradient_scope::heads_only; }

  /// Tells the observer, if there is one, that gradients at offsets >= `begin` are complete.
  void finished(index_t begin) const {
    if (observer != nullptr) {
      observer->finished(begin);
    }
  }

  /// The gradient of a parameter that the head shares with the trunk; without data if these losses
  /// do not train the trunk. [p.outputs]
  vector_view<sum_type, Backend> shared_vector(const parameter& p, bool reaches) const {
    return reaches ? g.vector(p) : vector_view<sum_type, Backend>(nullptr, dims<1>{p.outputs});
  }
  /// The same for a matrix.  [p.outputs, p.inputs]
  weight_view<sum_type, Backend> shared_matrix(const parameter& p, bool reaches) const {
    return reaches ? g.matrix(p) : weight_view<sum_type, Backend>(nullptr, p.outputs, p.inputs);
  }
  /// No rows, which means "no residual".
  static matrix_view<const S, Backend> no_rows() { return {nullptr, {0, 0}}; }
};

}  // namespace mtp::inline MTP_ABI
