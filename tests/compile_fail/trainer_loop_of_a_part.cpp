// expects: train: ranks have parts of this model (tensor_parallel_size); call step(), and
// save_checkpoint
#include "mtp/backend/cpu.hpp"
#include "mtp/io/train.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config looped = tensor_parallel({.hidden_size = 64}, 2);
#else
constexpr model_config looped = tensor_parallel({.hidden_size = 64}, 1);
#endif

void trainer_loop_of_a_part(trainer<looped, cpu>& run) {
  io::train(run, {}, [](const auto&) {});
}

}  // namespace mtp::test
