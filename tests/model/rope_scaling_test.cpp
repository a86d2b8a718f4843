// Rotary frequencies for longer sequences, against the formulas of the papers in terms of
// wavelengths.
#include "mtp/model/rope_scaling.hpp"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <numbers>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test::model_rope_scaling_cases {

namespace {

using mtp::index_t;
using mtp::rope_scaling_config;
using mtp::rope_scaling_kind;

constexpr double theta = 10000;

constexpr rope_scaling_config llama3{.kind = rope_scaling_kind::llama3,
                                     .factor = 8,
                                     .original_max_position_embeddings = 256,
                                     .low_freq_factor = 1,
                                     .high_freq_factor = 4};
constexpr rope_scaling_config yarn{.kind = rope_scaling_kind::yarn,
                                   .factor = 4,
                                   .original_max_position_embeddings = 128,
                                   .beta_fast = 16,
                                   .beta_slow = 2};

double wavelength(index_t e, index_t E) {
  return 2 * std::numbers::pi *
         std::pow(theta, 2.0 * static_cast<double>(e) / static_cast<double>(E));
}

/// As Meta's program has it: by comparing wavelengths.
double llama3_frequency(double length) {
  const double longest = 256 / 1.0, shortest = 256 / 4.0, plain = 2 * std::numbers::pi / length;
  if (length < shortest) return plain;
  if (length > longest) return plain / 8;
  const double smooth = (256 / length - 1) / (4 - 1.0);
  return (1 - smooth) * plain / 8 + smooth * plain;
}

/// As the authors of YaRN have it: a ramp between the dimensions that turn beta_fast and beta_slow
/// times, found by counting.
double yarn_frequency(index_t e, index_t E) {
  const double plain = 2 * std::numbers::pi / wavelength(e, E);
  const auto turns = [&](double pair) {
    return 128 / (2 * std::numbers::pi * std::pow(theta, 2 * pair / static_cast<double>(E)));
  };
  index_t low = 0, high = 0;
  while (turns(static_cast<double>(low + 1)) >= 16) ++low;  // the last that turns fast enough
  while (turns(static_cast<double>(high)) > 2) ++high;      // the first that turns slowly enough
  const double mixed = e <= low    ? 0
                       : e >= high ? 1
                                   : static_cast<double>(e - low) / static_cast<double>(high - low);
  return mixed * plain / 4 + (1 - mixed) * plain;
}

constexpr mtp::model_config with(rope_scaling_config scaling) {
  return {.vocab_size = 8,
          .hidden_size = 32,
          .num_hidden_layers = 1,
          .max_position_embeddings = 64,
          .attention = {.num_attention_heads = 1, .rope_scaling = scaling},
          .feed_forward = {.intermediate_size = 8}};
}

/// The largest difference between a model's table and magnitude times cos and sin of p f(e).
template <mtp::model_config Config, class Frequency>
double largest_error(double magnitude, const Frequency& frequency) {
  mtp::context<mtp::cpu> context;
  const mtp::language_model<Config, mtp::cpu, double> model(context, mtp::seed{1});
  const auto table = model.rope();
  double largest = 0;
  for (index_t p = 0; p < 64; ++p) {
    for (index_t e = 0; e < 16; ++e) {
      const double angle = static_cast<double>(p) * frequency(e);
      largest = (std::max)({largest,
                            std::abs(table(p, e) - magnitude * std::cos(angle)),
                            std::abs(table(p, 16 + e) - magnitude * std::sin(angle))});
    }
  }
  return largest;
}

}  // namespace

TEST_CASE("frequencies are those of the papers") {
  for (const index_t E : {2, 8, 32, 64, 128}) {
    int kept = 0, divided = 0;
    for (index_t e = 0; e < E / 2; ++e) {
      CAPTURE(E);
      CAPTURE(e);
      const double plain = 2 * std::numbers::pi / wavelength(e, E);
      const auto close = [](double value) { return doctest::Approx(value).epsilon(1e-14); };
      CHECK(mtp::rope_frequency({}, theta, e, E) == close(plain));
      CHECK(mtp::rope_frequency({.kind = rope_scaling_kind::linear, .factor = 3}, theta, e, E) ==
            close(plain / 3));
      CHECK(mtp::rope_frequency(llama3, theta, e, E) == close(llama3_frequency(wavelength(e, E))));
      CHECK(mtp::rope_frequency(yarn, theta, e, E) == close(yarn_frequency(e, E)));
      kept += mtp::rope_frequency(yarn, theta, e, E) == close(plain) ? 1 : 0;
      divided += mtp::rope_frequency(yarn, theta, e, E) == close(plain / 4) ? 1 : 0;
    }
    if (E >= 32) CHECK((kept > 0 && divided > 0 && kept + divided < E / 2));
  }
}

TEST_CASE("yarn makes cos and sin longer by 0.1 ln s + 1, or by what is given") {
  CHECK(mtp::rope_magnitude({}) == 1);
  CHECK(mtp::rope_magnitude(llama3) == 1);
  CHECK(mtp::rope_magnitude(yarn) == doctest::Approx(0.1 * std::log(4.0) + 1).epsilon(1e-15));
  auto given = yarn;
  given.attention_factor = 0.75f;
  CHECK(mtp::rope_magnitude(given) == 0.75);
}

TEST_CASE("yarn multiplies scores of latent attention by the square of its magnitude") {
  CHECK(mtp::rope_score_factor({}) == 1);
  CHECK(mtp::rope_score_factor(llama3) == 1);
  CHECK(mtp::rope_score_factor(yarn) == 1);  // mscale_all_dim is not given
  auto given = yarn;
  given.mscale_all_dim = 0.5f;
  CHECK(mtp::rope_score_factor(given) ==
        doctest::Approx(std::pow(0.05 * std::log(4.0) + 1, 2)).epsilon(1e-15));
  // DeepSeek-V3's.
  given.factor = 40;
  given.mscale_all_dim = 1;
  CHECK(mtp::rope_score_factor(given) == doctest::Approx(1.87385).epsilon(1e-5));
}

TEST_CASE("a model's table has them") {
  CHECK(largest_error<with(llama3)>(
            1, [](index_t e) { return llama3_frequency(wavelength(e, 32)); }) < 1e-12);
  CHECK(largest_error<with(yarn)>(0.1 * std::log(4.0) + 1,
                                  [](index_t e) { return yarn_frequency(e, 32); }) < 1e-12);
}

}  // namespace mtp::test::model_rope_scaling_cases
