// The program for one model: train, save, decode both ways, present.
#pragma once

#include <string>
#include <utility>

#include "decoding.hpp"
#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"
#include "options.hpp"
#include "outcome.hpp"
#include "training.hpp"

namespace example {

template <mtp::model_config Config>
int run(const program_options& options) {
  using model_type = mtp::language_model<Config, mtp::cpu>;
  using trainer_type = mtp::trainer<Config, mtp::cpu>;
  mtp::context<mtp::cpu> context({.threads = options.threads});
  text_collection text = load_texts(options);
  const run_facts facts{std::string(mtp::name_of(Config.head)),
                        Config.depth,
                        model_type::parameter_count(),
                        text.description,
                        static_cast<std::int64_t>(text.bytes.size()),
                        context.threads()};
  const mtp::dataset<> data(
      std::move(text.bytes),
      std::move(text.document_starts),
      {.window = trainer_type::window_of(options.length), .seed = {options.seed}});
  model_type model(context, mtp::seed{options.seed});
  trainer_type trainer(context, model, data, training_options<Config>(options));
  const training_outcome trained = train(options, facts, trainer);
  if (trained.interrupted) {
    return present(options, facts, trained, {});
  }
  mtp::generator<Config, mtp::cpu> generator(context, model);
  const auto prompts = options.prompts.empty() ? held_out_prompts(data, 12, 64) : options.prompts;
  return present(options, facts, trained, decode(options, generator, prompts));
}

}  // namespace example
