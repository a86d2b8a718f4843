// expects: load_checkpoint: expected a path and a trainer; a model alone is read by load_parameters
#include "compile_fail/backends.hpp"
#include "mtp/io/checkpoint.hpp"

namespace mtp::test {

void checkpoint_of_a_model(const std::filesystem::path& path,
                           language_model<model_config{}, host>& model) {
#ifdef MTP_KO
  io::load_checkpoint(path, model);
#else
  io::load_parameters(path, model);
#endif
}

}  // namespace mtp::test
