// Compares model.hpp, which is plain loops, with the library: takes the library's first parameters,
// trains, and gives them back; then loss, gradients and the text that both write must agree.
#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{
    .vocab_size = plain::V,
    .hidden_size = plain::C,
    .num_hidden_layers = plain::L,
    .max_position_embeddings = 96,
    .attention = {.num_attention_heads = plain::H},
    .feed_forward = {.intermediate_size = plain::F},
    .prediction = {.kind = mtp::head_kind::sequential, .depth = plain::D}};
using model_type = mtp::language_model<config, mtp::cpu, double>;
using array_type = mtp::parameter_array<double, mtp::cpu>;
constexpr mtp::index_t T = 24;  // positions

// Both sides add the same numbers in different orders. A path through the trunk and two modules
// passes 4 blocks; their products, attention and norms add fewer than 250 numbers one after the
// other in each, so fewer than 1000 roundings of 2^-53 forward and as many backward: 2.2e-13 of the
// numbers that are added. Where those cancel, the sum is smaller than they are: a factor of 10.
constexpr double bound = 2.2e-12;

/// A text that nearly follows a rule: now and then token 3 stands in place of what the rule says.
plain::text make_text(plain::index count) {
  plain::text text;
  for (plain::index i = 0; i < count; ++i) text.push_back(i % 37 == 20 ? 3 : i * i % 7 * 4 + 1);
  return text;
}

/// Calls visit(name, numbers of the plain model, element), element(i) being the library's i-th.
template <class Visit>
void visit_both(plain::model& plain_model, array_type array, const Visit& visit) {
  const auto all = plain_model.all();
  std::size_t next = 0;
  model_type::layout.visit([&](const std::string& name, const mtp::parameter& p) {
    const auto element = [&](std::size_t i) -> double& {
      const auto at = static_cast<mtp::index_t>(i);
      return p.is_vector() ? array.vector(p)(at) : array.matrix(p)(at / p.inputs, at % p.inputs);
    };
    visit(name, *all.at(next++), element);
  });
}

/// Loss and gradients of a window. Returns whether they differ by at most the bound.
bool compare_gradients(mtp::context<mtp::cpu>& context,
                       const model_type& model,
                       const plain::model& plain_model,
                       const plain::text& window) {
  mtp::model_loss<config, mtp::cpu, double> loss(context, 1, T);
  mtp::buffer<double, mtp::cpu> gradients(model_type::layout.storage);
  auto options = mtp::default_loss_options<config>();
  options.lambda = plain::lambda;
  const std::vector<mtp::token_t> tokens(window.begin(), window.end());
  const array_type array(gradients.data(), gradients.count());
  const auto report = loss.with_gradients(context, model, array, {tokens, {}, {}, 1, T}, options);

  plain::model plain_gradients;
  const double plain_loss = loss_and_gradient(plain_gradients, plain_model, window);
  double largest_error = std::abs(plain_loss - report.total) / plain_loss;
  std::printf("loss %.15f, of the library %.15f\n", plain_loss, report.total);
  visit_both(plain_gradients,
             array,
             [&](const std::string& name, const plain::numbers& ours, const auto& element) {
               double largest = 0, error = 0;
               for (std::size_t i = 0; i < ours.size(); ++i) {
                 largest = std::max(largest, std::abs(ours[i]));
                 error = std::max(error, std::abs(ours[i] - element(i)));
               }
               if (name.find("mtp.1.") == 0) {
                 std::printf("gradient of %-55s up to %.4f, error %.1e of that\n",
                             name.c_str(),
                             largest,
                             error / largest);
               }
               largest_error = std::max(largest_error, error / largest);
             });
  std::printf("largest error %.1e, at most %.1e is expected\n", largest_error, bound);
  return largest_error <= bound;
}

/// What both write behind a prompt. Returns whether it is the same, in as many passes.
bool compare_text(mtp::context<mtp::cpu>& context,
                  const model_type& model,
                  const plain::model& plain_model,
                  const plain::text& prompt) {
  mtp::generator<config, mtp::cpu, double> generator(context, model);
  const std::vector<mtp::token_t> tokens(prompt.begin(), prompt.end());
  const auto& made = generator.generate(tokens, {.max_new_tokens = 60});
  plain::text text = prompt;
  int passes = 0;
  for (; text.size() < prompt.size() + 60; ++passes) decode_cycle(plain_model, text);
  text.resize(prompt.size() + 60);
  std::printf("text");
  for (const plain::index token : text) std::printf(" %zu", token);
  std::printf("\npasses %d, of the library %d\n", passes, static_cast<int>(made.forward_passes));
  return passes == made.forward_passes && std::equal(made.tokens.begin(),
                                                     made.tokens.end(),
                                                     text.begin() + std::ptrdiff_t(prompt.size()),
                                                     text.end(),
                                                     [](mtp::token_t a, plain::index b) {
                                                       return static_cast<plain::index>(a) == b;
                                                     });
}

int main() {
  mtp::context<mtp::cpu> context;
  model_type model(context, mtp::seed{4});
  plain::model plain_model;
  visit_both(plain_model, model.values(), [](const auto&, auto& ours, const auto& element) {
    for (std::size_t i = 0; i < ours.size(); ++i) ours[i] = element(i);
  });

  const plain::text text = make_text(400);
  const auto window = [&](int step) {
    const auto begin = text.begin() + step * 53 % 370;
    return plain::text(begin, begin + T + 1 + plain::D);
  };
  for (int step = 0; step <= 240; ++step) {
    const double loss = train_step(plain_model, window(step), 0.4);
    if (step % 60 == 0) std::printf("step %3d: loss %.4f\n", step, loss);
  }

  visit_both(plain_model, model.values(), [](const auto&, const auto& ours, const auto& element) {
    for (std::size_t i = 0; i < ours.size(); ++i) element(i) = ours[i];
  });
  const bool same_gradients = compare_gradients(context, model, plain_model, window(241));
  const bool same_text =
      compare_text(context, model, plain_model, plain::text(text.begin(), text.begin() + 5));
  return same_gradients && same_text ? 0 : 1;
}
