#include "saved_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <system_error>

#include "models.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/safetensors_reader.hpp"
#include "options.hpp"

namespace example {

std::unique_ptr<saved_model> open_saved_model(const std::filesystem::path& folder, int threads) {
  using opener = std::unique_ptr<saved_model> (*)(const checkpoint_choice&);
  static const std::map<std::string, opener> openers{
      {"none", open_none},
      {"sequential", open_sequential},
      {"parallel", open_parallel},
      {"independent", open_independent},
      {"recurrent", open_recurrent},
      {"shared_logit", open_shared_logit},
  };
  const std::filesystem::path checkpoint = folder / "checkpoint.safetensors";
  std::error_code failure;
  if (!std::filesystem::exists(checkpoint, failure)) {
    throw wrong_use(fmt::format(
        "there is no model in '{}'. scripts/demo trains one for each of demo/parallel and "
        "demo/sequential in some minutes; train_and_generate --out DIR trains any",
        folder.string()));
  }
  const mtp::io::safetensors_file file(checkpoint);
  const mtp::model_config config = mtp::io::config_of(file.metadata());
  const std::string kind(mtp::name_of(config.prediction.kind));
  const int depth = config.prediction.depth;
  mtp::check(
      depth == 0 || std::find(std::begin(compiled_depths), std::end(compiled_depths), depth) !=
                        std::end(compiled_depths),
      "open_saved_model: '",
      checkpoint.string(),
      "' is of a model of depth ",
      depth,
      ", which the program is not compiled for");
  return openers.at(kind)({checkpoint, depth, threads});
}

}  // namespace example
