// expects: trainer::validate: nothing but the report comes of it
#include "compile_fail/backends.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

void ignored_losses(trainer<model_config{}, host>& run) {
#ifdef MTP_KO
  run.validate(1);
#else
  static_cast<void>(sizeof(run.validate(1).total));
#endif
}

}  // namespace mtp::test
