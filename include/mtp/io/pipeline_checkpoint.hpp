// Saves and resumes runs of models in stages.
#pragma once

#include <filesystem>

#include "mtp/core/scalar.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/train.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/train/pipeline_trainer.hpp"

namespace mtp::inline MTP_ABI::io {

/// save_checkpoint of a model in stages, which all ranks call. The file has the bytes that a
/// trainer in one process would write; rank 0 writes it, and needs room for all masters and
/// moments.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
void save_checkpoint(const std::filesystem::path& path,
                     pipeline_trainer<Config, Backend, S, Element, Communicator>& run) {
  checkpoint_detail::save(path, run, {});
}

/// load_checkpoint of a model in stages, which all ranks call. The file may be that of any number
/// of stages or of copies, or of one process.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
void load_checkpoint(const std::filesystem::path& path,
                     pipeline_trainer<Config, Backend, S, Element, Communicator>& run) {
  checkpoint_detail::load(path, run);
}

/// train of a model in stages, which all ranks call. Validation goes through the stages, and the
/// files have the bytes that they have in one process.
template <model_config Config,
          class Backend,
          scalar S,
          class Element,
          class Communicator,
          class Callback>
train_outcome train(pipeline_trainer<Config, Backend, S, Element, Communicator>& run,
                    const train_loop& loop,
                    Callback&& callback) {
  return train_detail::run_loop(run, loop, callback);
}

/// The same without a callback.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
train_outcome train(pipeline_trainer<Config, Backend, S, Element, Communicator>& run,
                    const train_loop& loop) {
  return train(run, loop, [](const train_report<Config.prediction.depth>&) {});
}

}  // namespace mtp::inline MTP_ABI::io
