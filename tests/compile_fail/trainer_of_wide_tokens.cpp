// expects: trainer: the tokens of the dataset must be integers that fit into token_t
#include "compile_fail/backends.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

void trainer_of_wide_tokens() {
#ifdef MTP_KO
  static_assert(trainer<model_config{}, host, float, std::uint64_t>::window_of(8) == 9);
#else
  static_assert(trainer<model_config{}, host, float, std::uint16_t>::window_of(8) == 9);
#endif
}

}  // namespace mtp::test
