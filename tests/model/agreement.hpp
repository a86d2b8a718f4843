// What a model computes on a backend, from its first parameters to generated text, so that backends
// can be compared. The CPU's half is compiled by agreement_cpu.cpp, that of a GPU by
// agreement_test.cu.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/expert_configs.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/model/transfer.hpp"
#include "mtp/train/trainer.hpp"
#include "support/batches.hpp"
#include "support/latent_config.hpp"

namespace mtp::test {

/// Everything in row-major order and as double, which holds each element type exactly.
struct model_trace {
  using arrays = std::map<std::string, std::vector<double>>;

  arrays initial;                      // parameters as the seed makes them
  arrays gradients;                    // of one batch
  arrays loads;                        // of experts, in the same pass
  arrays trained;                      // parameters after two steps
  std::vector<double> losses;          // of the batch: total, then loss and agreement of each depth
  std::vector<double> step_losses;     // total of each step
  std::vector<double> gradient_norms;  // of each step
  struct text {
    std::vector<token_t> tokens;
    std::vector<double> logits;  // [tokens, V]
    index_t forward_passes = 0;
  };
  text plain, speculative;  // by the trained model
  text drawn;               // in f64, the beginning of one that is sampled, with drafts
};

/// The cases, by number: one for each head kind and set of options, then two with latent attention.
/// The first six run in f64, the others in f32 and bf16.
inline constexpr int agreement_cases = 14;
inline constexpr int agreement_cases_in_f64 = 6;
/// One more, in all of them: a mixture of experts, whose choices no rounding should decide.
inline constexpr int agreement_case_of_experts = agreement_cases;

constexpr model_config agreement_config(int number) {
  if (number == agreement_case_of_experts) {
    return deepseek_experts(head_kind::sequential, 2);
  }
  if (number >= 12) {
    return number == 12 ? with_latents(tiny_config(head_kind::sequential, 2))
                        : with_plain_queries(flipped_config(head_kind::parallel, 2));
  }
  constexpr head_kind kinds[] = {head_kind::none,
                                 head_kind::sequential,
                                 head_kind::parallel,
                                 head_kind::independent,
                                 head_kind::recurrent,
                                 head_kind::shared_logit};
  const head_kind kind = kinds[number % 6];
  const int depth = kind == head_kind::none ? 0 : 2;
  model_config config =
      number < agreement_cases_in_f64 ? tiny_config(kind, depth) : flipped_config(kind, depth);
  if (number >= agreement_cases_in_f64) {  // head widths that tensor cores take
    config.hidden_size = 32;
    config.attention.head_dim = 16;
    config.feed_forward.intermediate_size = 40;
  }
  return config;
}

namespace detail {

template <class Layout, class Backend, class S>
model_trace::arrays arrays_of(const Layout& layout, const parameter_array<S, Backend>& array) {
  using element = std::remove_const_t<S>;
  const auto host = mtp::detail::host_copy(array);
  model_trace::arrays all;
  layout.visit([&](const std::string& name, const parameter& p) {
    auto& rows = all[name];
    for (index_t i = 0; i < p.count(); ++i) {
      rows.push_back(static_cast<double>(
          host[static_cast<std::size_t>(mtp::detail::place_of<Backend, element>(p, i))]));
    }
  });
  return all;
}

template <class Generator, class S, class Backend>
model_trace::text write(Generator& generator,
                        const std::vector<token_t>& prompt,
                        generate_options<S, Backend> options) {
  model_trace::text made;
  std::vector<accumulate_t<S>> row;
  options.on_logits = [&](index_t, vector_view<const accumulate_t<S>, Backend> logits) {
    row.resize(static_cast<std::size_t>(logits.extent(0)));
    generator.download(row, logits);
    made.logits.insert(made.logits.end(), row.begin(), row.end());
  };
  const auto& result = generator.generate(prompt, options);
  made.tokens = result.tokens;
  made.forward_passes = result.forward_passes;
  return made;
}

}  // namespace detail

template <model_config Config, class Backend, class S>
model_trace trace(context<Backend>& context) {
  using model_type = language_model<Config, Backend, S>;
  using sum_type = accumulate_t<S>;
  constexpr index_t B = 2, T = 9;
  model_trace made;
  model_type model(context, seed{5});
  made.initial = detail::arrays_of(model_type::layout, std::as_const(model).values());

  const token_batch batch = divided_batch(Config, B, T, 23);
  model_loss<Config, Backend, S> loss(context, B, T);
  buffer<sum_type, Backend> gradients(model_type::layout.storage);
  const parameter_array<sum_type, Backend> array(gradients.data(), gradients.count());
  const auto report =
      loss.with_gradients(context, model, array, batch.view(), default_loss_options<Config>());
  made.losses.push_back(report.total);
  for (const depth_report& depth : report.depths) {
    made.losses.push_back(depth.loss);
    made.losses.push_back(depth.agreement);
  }
  made.gradients = detail::arrays_of(model_type::layout, array);
  model_type::layout.visit([&](const std::string& name, const parameter& p) {
    if (p.role == parameter_role::routing_bias) {
      made.loads.insert(made.gradients.extract(name));
    }
  });

  std::vector<std::uint8_t> text;
  for (int i = 0; i < 400; ++i) {
    text.push_back(static_cast<std::uint8_t>((i * i / 3 + i) % Config.vocab_size));
  }
  using trainer_type = trainer<Config, Backend, S>;
  const dataset<> data(text, {}, {.window = trainer_type::window_of(T)});
  trainer_type trainer(
      context,
      model,
      data,
      {.batch = B, .length = T, .learning_rate = learning_rate_schedule::constant(1e-4)});
  for (int step = 0; step < 2; ++step) {
    const auto done = trainer.step();
    made.step_losses.push_back(done.loss.total);
    made.gradient_norms.push_back(done.gradient_norm);
  }
  made.trained = detail::arrays_of(model_type::layout, trainer.optimizer().master(model));

  generator<Config, Backend, S> generator(context, model);
  const std::vector<token_t> prompt{1, 7, 3, 3, 12};
  generate_options<S, Backend> options;
  options.max_new_tokens = 30;
  options.mode = decode_mode::plain;
  made.plain = detail::write(generator, prompt, options);
  options.mode = decode_mode::speculative;
  made.speculative = detail::write(generator, prompt, options);
  if constexpr (std::is_same_v<S, double>) {
    options.max_new_tokens = 12;
    options.sampling = {.temperature = 1,
                        .top_k = 15,
                        .top_p = 0.95,
                        .repetition_penalty = 1.1,
                        .frequency_penalty = 0.1,
                        .seed = seed{3}};
    made.drawn = detail::write(generator, prompt, options);
  }
  return made;
}

/// The traces of cases First + 0, 1, .. by number, compiled for one backend and element type.
template <class Backend, class S, int First, int... Number>
model_trace trace_case(int number,
                       context<Backend>& context,
                       std::integer_sequence<int, Number...>) {
  using function = model_trace (*)(mtp::context<Backend>&);
  constexpr function all[] = {trace<agreement_config(First + Number), Backend, S>...};
  return all[number - First](context);
}
template <class Backend, class S>
model_trace trace_case(int number, context<Backend>& context) {
  if (number == agreement_case_of_experts) {
    return trace<agreement_config(agreement_case_of_experts), Backend, S>(context);
  }
  constexpr int first = std::is_same_v<S, double> ? 0 : agreement_cases_in_f64;
  constexpr int last = std::is_same_v<S, double> ? agreement_cases_in_f64 : agreement_cases;
  return trace_case<Backend, S, first>(
      number, context, std::make_integer_sequence<int, last - first>{});
}

/// On the CPU, with elements of `bytes` bytes: 8, 4 or 2.
model_trace trace_on_cpu(int number, int bytes);

}  // namespace mtp::test
