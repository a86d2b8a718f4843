#include "trained_model.hpp"

namespace mtp::bench {

std::unique_ptr<training_run> make_training(head_kind head, int depth, int threads) {
  return training_choice(head, depth, threads)
      .offer<small, float, 16, 256, head_kind::none, 0>()
      .offer<small, float, 16, 256, head_kind::sequential, 1, 2, 3, 4>()
      .offer<small, float, 16, 256, head_kind::parallel, 1, 2, 3, 4>()
      .offer<small, float, 16, 256, head_kind::recurrent, 4>()
      .offer<small, float, 16, 256, head_kind::independent, 4>()
      .offer<small, float, 16, 256, head_kind::shared_logit, 4>()
      .take();
}

}  // namespace mtp::bench
