// The parameters that a stage of a pipeline has.
#pragma once

#include <cstdint>
#include <string>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/random.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/stage_layout.hpp"

namespace mtp::inline MTP_ABI {

/// The parameters of one stage of a language_model, in memory of their own; pipeline_trainer trains
/// them. What a stage has follows from pipeline_plan::stage.
template <model_config Config, class Backend, scalar S = float>
class stage_model : public inference_model<Config, Backend, S> {
  using base = inference_model<Config, Backend, S>;
  static_assert(is_whole<Config>,
                "stage_model: ranks have parts of this model (tensor_parallel_size); a stage of a "
                "pipeline is not divided further");

 public:
  using layout_type = stage_layout<Config, Backend, S>;  ///< where its parameters lie

  /// The parameters of a stage that language_model has for the same seed. Throws mtp::error unless
  /// the stage has blocks that the trunk has.
  stage_model(context<Backend>& context, mtp::seed seed, const pipeline_stage& which)
      : base(layout_type::make(checked(which)).storage),
        stage(which),
        layout(layout_type::make(which)) {
    const detail::default_environment scope;
    std::uint64_t stream = 0;
    base::layout.visit([&](const std::string&, const parameter& p) {
      const random_stream random(seed, stream++);
      parameter own = p;
      own.offset = layout.offset_of(p);
      if (own.offset >= 0) {
        detail::initialize_parameter<Config>(context, values(), own, random);
      }
    });
    this->fill_rope();
  }

  using base::values;
  /// Mutable.
  parameter_array<S, Backend> values() { return {this->values_.data(), this->values_.count()}; }

  const pipeline_stage stage;  ///< what it has
  const layout_type layout;    ///< where its parameters lie

 private:
  static const pipeline_stage& checked(const pipeline_stage& stage) {
    check(stage.first >= 0 && stage.first <= stage.last && stage.last <= layout_type::blocks &&
              (!stage.embeds || stage.first == 0),
          "stage_model: expected blocks within [0, ",
          layout_type::blocks,
          "), the embedding in front of the first, got [",
          stage.first,
          ", ",
          stage.last,
          ")");
    return stage;
  }
};

}  // namespace mtp::inline MTP_ABI
