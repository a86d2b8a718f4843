// The program for one model on the CPU, and the model as it was saved.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/parameters.hpp"
#include "ranks.hpp"
#include "run.hpp"
#include "saved_model.hpp"

namespace example {

template <mtp::model_config Config>
int run_on_cpu(const program_options& options) {
  ranks alone;
  ranks& group = options.group != nullptr ? *options.group : alone;
  mtp::context<mtp::cpu> context({.threads = options.threads});
  const auto threads = context.threads();
  std::string on = std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  if (group.size() > 1) on = std::to_string(group.size()) + " ranks, " + on + " each";
  return run<Config, mtp::cpu, float>(options, context, on, group);
}

template <mtp::model_config Config>
class saved_model_on_cpu final : public saved_model {
 public:
  explicit saved_model_on_cpu(const checkpoint_choice& choice)
      : context_({.threads = choice.threads}),
        model_(context_, mtp::seed{1}),
        generator_(context_, model_) {
    mtp::io::load_parameters(choice.path, model_);
  }

  writing_figures write(std::span<const mtp::token_t> prompt,
                        const options_type& options) override {
    const auto& result = generator_.generate(prompt, options);
    writing_figures figures{.tokens = static_cast<mtp::index_t>(result.tokens.size()),
                            .tokens_per_forward = result.tokens_per_forward(),
                            .seconds = result.decode_seconds};
    for (std::size_t k = 0; k < result.drafted.size() && result.drafted[k] > 0; ++k) {
      figures.acceptance.push_back(result.acceptance(k));
    }
    return figures;
  }

  mtp::index_t positions() const override { return Config.max_position_embeddings; }

 private:
  mtp::context<mtp::cpu> context_;
  mtp::language_model<Config, mtp::cpu> model_;
  mtp::generator<Config, mtp::cpu> generator_;
};

template <mtp::model_config Config>
std::unique_ptr<saved_model> open_on_cpu(const checkpoint_choice& choice) {
  return std::make_unique<saved_model_on_cpu<Config>>(choice);
}

/// Both for a head kind, with the depth that is asked for among those that are compiled.
template <mtp::head_kind Kind>
int run_kind_on_cpu(const program_options& options) {
  return options.depth == 1 ? run_on_cpu<make_config(Kind, 1)>(options)
                            : run_on_cpu<make_config(Kind, 3)>(options);
}
template <mtp::head_kind Kind>
std::unique_ptr<saved_model> open_kind_on_cpu(const checkpoint_choice& choice) {
  return choice.depth == 1 ? open_on_cpu<make_config(Kind, 1)>(choice)
                           : open_on_cpu<make_config(Kind, 3)>(choice);
}

}  // namespace example
