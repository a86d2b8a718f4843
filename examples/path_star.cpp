// The path-star task (Bachmann and Nagarajan 2024, arXiv 2403.06963): does predicting several
// tokens help a model to plan? Arms of equal length leave one start node. A row lists the edges in
// random order, then start and goal, then the nodes of the arm that ends in the goal:
//
//   5 3  2 6  0 5  6 4  3 1  0 2   0 1  =  5 3 1
//
// Only the first node behind "=" is a decision: it takes following the arm from the goal back to
// the start. Each later node can be looked up from the one before it. The paper argues that a
// next-token model learns the look-up, guesses the first node, and solves one graph in two.
//
// "path_star STEPS SEEDS" prints the share of fresh graphs that each model solves, at each quarter
// of its training, and claims nothing. docs/path_star.md has a longer run.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

using mtp::head_kind;
using mtp::index_t;
using mtp::token_t;

constexpr index_t arms = 2, arm_nodes = 3;
constexpr index_t names = 1 + arms * arm_nodes;  // of nodes; every graph uses all of them
constexpr token_t equals = names, padding = names + 1;
constexpr index_t edges = arms * arm_nodes, path_prefix = 2 * edges + 3;
constexpr index_t length = path_prefix + arm_nodes - 1;  // T: all but the last node of the path
constexpr index_t batch = 64, test_batches = 8, quarters = 4;

constexpr mtp::model_config config_of(head_kind head) {
  return {.vocab_size = names + 2,
          .hidden_size = 64,
          .num_hidden_layers = 3,
          .max_position_embeddings = length,
          .attention = {.num_attention_heads = 4},
          .feed_forward = {.intermediate_size = 176},
          .prediction = {.kind = head,
                         .depth = head == head_kind::none ? 0 : static_cast<int>(arm_nodes) - 1}};
}

/// Rows of T + 1 + D tokens, of which only the path is a target.
struct graphs {
  std::vector<token_t> tokens;     // [B, T + 1 + D]
  std::vector<std::uint8_t> mask;  // [B, T + 1 + D]

  /// Appends graph `number` of a stream.
  void add(const mtp::random_stream& random, std::uint64_t number, index_t row) {
    std::uint64_t draw = number << 8;
    const auto shuffle = [&](auto& items) {
      for (auto i = items.size(); i > 1; --i)
        std::swap(items[i - 1], items[random.below(draw++, i)]);
    };
    std::array<token_t, names> node;  // the start, the nodes of the arm to the goal, the other arm
    std::iota(node.begin(), node.end(), 0);
    shuffle(node);
    std::array<std::pair<token_t, token_t>, edges> edge;
    for (std::size_t e = 0; e < edge.size(); ++e) {
      edge[e] = {e % arm_nodes == 0 ? node[0] : node[e], node[e + 1]};
    }
    shuffle(edge);
    const auto begin = static_cast<index_t>(tokens.size());
    for (const auto& [from, to] : edge) tokens.insert(tokens.end(), {from, to});
    tokens.insert(tokens.end(), {node[0], node[arm_nodes], equals});
    tokens.insert(tokens.end(), node.begin() + 1, node.begin() + 1 + arm_nodes);
    tokens.resize(static_cast<std::size_t>(begin + row), padding);
    for (index_t i = 0; i < row; ++i)
      mask.push_back(i >= path_prefix && i < path_prefix + arm_nodes);
  }
};

/// Trains a model on fresh graphs, prints and at last returns the percentage of others it solves.
template <head_kind Head>
double solve_rate(mtp::context<mtp::cpu>& context, std::uint64_t seed, index_t steps) {
  constexpr mtp::model_config config = config_of(Head);
  constexpr index_t row = length + 1 + config.prediction.depth;
  using model_type = mtp::language_model<config, mtp::cpu>;
  model_type model(context, mtp::seed{seed});
  mtp::model_loss<config, mtp::cpu> loss(context, batch, length);
  mtp::adamw<config, mtp::cpu> optimizer(context, model, {.weight_decay = 0.01});
  mtp::buffer<float, mtp::cpu> gradients(model_type::layout.storage);
  const mtp::parameter_array<float, mtp::cpu> all(gradients.data(), gradients.count());
  auto options = mtp::default_loss_options<config>();
  options.normalization = mtp::loss_normalization::valid_targets;
  options.weights.fill(1);  // every kind gets the same: no depth counts less
  const mtp::learning_rate_schedule rate{2e-3, 1e-4, steps / 20, steps};

  graphs rows;
  const auto next_batch = [&](std::uint64_t stream, index_t number) {
    rows = {};
    const mtp::random_stream random(mtp::seed{seed}, stream);
    for (index_t b = 0; b < batch; ++b) {
      rows.add(random, static_cast<std::uint64_t>(number * batch + b), row);
    }
    return mtp::batch_view{rows.tokens, {}, rows.mask, batch, length};
  };
  // A greedy path is right if each node is the most likely one behind the true nodes before it.
  const auto percentage = [&] {
    mtp::tensor<token_t, mtp::dims<1>, mtp::cpu> best(mtp::dims<1>{batch * length});  // [N]
    int solved = 0;
    for (index_t number = 0; number < test_batches; ++number) {
      loss.visit_logits(context, model, next_batch(2, number), [&](std::size_t k, auto logits) {
        if (k == 0) mtp::argmax(context, best.view(), logits);
      });
      for (index_t b = 0; b < batch; ++b) {
        const token_t* path = rows.tokens.data() + b * row + path_prefix;
        solved += std::equal(path, path + arm_nodes, &best(b * length + path_prefix - 1)) ? 1 : 0;
      }
    }
    return 100.0 * solved / static_cast<double>(test_batches * batch);
  };

  std::printf("%-11s %4d ", mtp::name_of(Head).data(), static_cast<int>(seed));
  double first = 0, last = 0, solved = 0;
  for (index_t step = 0; step < steps; ++step) {
    std::fill_n(gradients.data(), gradients.count(), 0.0f);
    last = loss.with_gradients(context, model, all, next_batch(1, step), options).depths[0].loss;
    first = step == 0 ? last : first;
    optimizer.update(context, model, all, rate.at(step), 1, 0);
    if ((step + 1) * quarters / steps > step * quarters / steps) {
      std::printf(" %5.1f%s", solved = percentage(), step + 1 == steps ? "\n" : "");
      std::fflush(stdout);
    }
  }
  mtp::check(last < first, "path_star: the loss went from ", first, " to ", last);
  return solved;
}

int main(int count, char** arguments) {
  const index_t steps = count > 1 ? std::atol(arguments[1]) : 10;
  const std::uint64_t seeds = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 2;
  mtp::context<mtp::cpu> context({.threads = 1});
  std::printf("%td steps of %td graphs; solved, in %%, after a part of them\n", steps, batch);
  std::puts("head        seed    1/4   1/2   3/4   all");
  double none = 0, parallel = 0, sequential = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    none += solve_rate<head_kind::none>(context, seed, steps);
    parallel += solve_rate<head_kind::parallel>(context, seed, steps);
    sequential += solve_rate<head_kind::sequential>(context, seed, steps);
  }
  const double n = static_cast<double>(seeds);
  std::printf(
      "mean: %.1f none, %.1f parallel, %.1f sequential\n", none / n, parallel / n, sequential / n);
}
