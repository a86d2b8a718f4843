// A language model with a sequential head in plain loops: a training step and a cycle of decoding,
// as in DeepSeek-V3 (arXiv 2412.19437, section 2.2). Nothing of the library is used, and nothing is
// fast: every pass computes all rows again. main.cpp compares it with the library.
#pragma once

#include <array>
#include <vector>

#include "layers.hpp"

namespace plain {

using text = std::vector<index>;  // tokens

// Vocabulary, blocks, tokens beyond the next one, the weight of their losses.
constexpr index V = 29, L = 2, D = 2;
constexpr double lambda = 0.3;

struct block {
  numbers norm1 = numbers(C), qkv = numbers(3 * C * C), output = numbers(C * C), norm2 = numbers(C),
          gate_up = numbers(2 * F * C), down = numbers(C * F);
};
struct mtp_module {
  numbers embedding_norm = numbers(C), hidden_norm = numbers(C), projection = numbers(2 * C * C);
  block transformer;
  numbers norm = numbers(C);
};
/// Parameters, or their gradients.
struct model {
  numbers embedding = numbers(V * C);
  std::array<block, L> blocks;
  numbers norm = numbers(C), output = numbers(V * C);
  std::array<mtp_module, D> modules;

  /// All of them, in the library's order.
  std::vector<numbers*> all() {
    std::vector<numbers*> list{&embedding};
    const auto add = [&](block& b) {
      list.insert(list.end(), {&b.norm1, &b.qkv, &b.output, &b.norm2, &b.gate_up, &b.down});
    };
    for (block& b : blocks) add(b);
    list.insert(list.end(), {&norm, &output});
    for (mtp_module& m : modules) {
      list.insert(list.end(), {&m.embedding_norm, &m.hidden_norm, &m.projection});
      add(m.transformer);
      list.push_back(&m.norm);
    }
    return list;
  }
};

/// What the passes over a block keep.
struct block_pass {
  numbers x, normed1, qkv, attended, middle, normed2, gate_up, gated;
};
inline numbers forward(block_pass& a, const block& w, const numbers& x) {
  a.x = x;
  a.normed1 = rms_norm(x, w.norm1);
  a.qkv = linear(a.normed1, w.qkv, C);
  rotate(a.qkv, 1);
  a.attended = attention(a.qkv);
  a.middle = sum(x, linear(a.attended, w.output, C));
  a.normed2 = rms_norm(a.middle, w.norm2);
  a.gate_up = linear(a.normed2, w.gate_up, C);
  a.gated = swiglu(a.gate_up);
  return sum(a.middle, linear(a.gated, w.down, F));
}
inline numbers backward(block& g, const block_pass& a, const block& w, const numbers& dy) {
  const numbers dgated = linear_backward(g.down, dy, a.gated, w.down, F);
  const numbers dgate_up = swiglu_backward(dgated, a.gate_up);
  const numbers dnormed2 = linear_backward(g.gate_up, dgate_up, a.normed2, w.gate_up, C);
  const numbers dmiddle = sum(dy, rms_norm_backward(g.norm2, dnormed2, a.middle, w.norm2));
  const numbers dattended = linear_backward(g.output, dmiddle, a.attended, w.output, C);
  numbers dqkv = attention_backward(dattended, a.qkv);
  rotate(dqkv, -1);
  const numbers dnormed1 = linear_backward(g.qkv, dqkv, a.normed1, w.qkv, C);
  return sum(dmiddle, rms_norm_backward(g.norm1, dnormed1, a.x, w.norm1));
}

/// Rows of the embedding: of N tokens from the one at `first` on.
inline numbers embed(const model& w, const text& tokens, index first, index N) {
  numbers rows;
  for (index i = first; i < first + N; ++i)
    for (index c = 0; c < C; ++c) rows.push_back(w.embedding[tokens[i] * C + c]);
  return rows;
}

/// What the passes over N positions keep: of depth 0 the trunk, of the others a module each.
struct depth_pass {
  numbers embedded, joined, stream, hidden;  // hidden is what the output matrix reads  [N, C]
  std::array<block_pass, L> blocks;
};
using model_pass = std::array<depth_pass, D + 1>;

/// Depth 0: the trunk. Row i has seen the tokens up to i and predicts token i + 1.
inline void forward_trunk(model_pass& a, const model& w, const text& tokens, index N) {
  a[0].stream = embed(w, tokens, 0, N);
  for (index l = 0; l < L; ++l) a[0].stream = forward(a[0].blocks[l], w.blocks[l], a[0].stream);
  a[0].hidden = rms_norm(a[0].stream, w.norm);
}
/// Depth k >= 1, equations 21 to 23: row i has also seen token i + k and predicts token i + k + 1.
inline void forward_module(model_pass& a, const model& w, index k, const text& tokens, index N) {
  const mtp_module& m = w.modules[k - 1];
  a[k].embedded = embed(w, tokens, k, N);
  const numbers h = rms_norm(a[k - 1].hidden, m.hidden_norm);
  const numbers e = rms_norm(a[k].embedded, m.embedding_norm);
  a[k].joined.clear();
  for (index n = 0; n < N; ++n)
    for (const numbers& half : {h, e})
      for (index c = 0; c < C; ++c) a[k].joined.push_back(half[n * C + c]);
  const numbers projected = linear(a[k].joined, m.projection, 2 * C);
  a[k].stream = forward(a[k].blocks[0], m.transformer, projected);
  a[k].hidden = rms_norm(a[k].stream, m.norm);
}

/// The loss of N + 1 + D tokens, equations 24 and 25; adds its gradient to g.
inline double loss_and_gradient(model& g, const model& w, const text& tokens) {
  const index N = tokens.size() - 1 - D;
  model_pass a;
  forward_trunk(a, w, tokens, N);
  for (index k = 1; k <= D; ++k) forward_module(a, w, k, tokens, N);

  double loss = 0;
  numbers carried(N * C);  // the gradient of a depth's hidden that the depth behind it gives
  for (index k = D + 1; k-- > 0;) {
    const double weight = (k == 0 ? 1 : lambda / D) / static_cast<double>(N);
    numbers d = linear(a[k].hidden, w.output, C);  // logits, then probabilities, then gradients
    for (index n = 0; n < N; ++n) {
      const double largest = *std::max_element(&d[n * V], &d[n * V] + V);
      double total = 0;
      for (index v = 0; v < V; ++v) total += std::exp(d[n * V + v] - largest);
      const index target = tokens[n + 1 + k];
      loss += weight * (std::log(total) + largest - d[n * V + target]);
      for (index v = 0; v < V; ++v)
        d[n * V + v] = weight * (std::exp(d[n * V + v] - largest) / total - (v == target ? 1 : 0));
    }
    const numbers dhidden = sum(carried, linear_backward(g.output, d, a[k].hidden, w.output, C));
    if (k > 0) {
      const mtp_module& m = w.modules[k - 1];
      mtp_module& gm = g.modules[k - 1];
      numbers dx = rms_norm_backward(gm.norm, dhidden, a[k].stream, m.norm);
      dx = backward(gm.transformer, a[k].blocks[0], m.transformer, dx);
      dx = linear_backward(gm.projection, dx, a[k].joined, m.projection, 2 * C);
      numbers dh, de;
      for (index i = 0; i < 2 * N * C; ++i) (i % (2 * C) < C ? dh : de).push_back(dx[i]);
      carried = rms_norm_backward(gm.hidden_norm, dh, a[k - 1].hidden, m.hidden_norm);
      de = rms_norm_backward(gm.embedding_norm, de, a[k].embedded, m.embedding_norm);
      for (index i = 0; i < N * C; ++i) g.embedding[tokens[i / C + k] * C + i % C] += de[i];
    } else {
      numbers dx = rms_norm_backward(g.norm, dhidden, a[0].stream, w.norm);
      for (index l = L; l-- > 0;) dx = backward(g.blocks[l], a[0].blocks[l], w.blocks[l], dx);
      for (index i = 0; i < N * C; ++i) g.embedding[tokens[i / C] * C + i % C] += dx[i];
    }
  }
  return loss;
}

/// A step of training: gradient descent. Returns the loss before it.
inline double train_step(model& w, const text& tokens, double rate) {
  model g;
  const double loss = loss_and_gradient(g, w, tokens);
  const auto values = w.all(), slopes = g.all();
  for (index p = 0; p < values.size(); ++p)
    for (index i = 0; i < values[p]->size(); ++i) (*values[p])[i] -= rate * (*slopes[p])[i];
  return loss;
}

/// The most likely token behind row n of `hidden`.
inline index predict(const model& w, const numbers& hidden, index n) {
  const numbers row(&hidden[n * C], &hidden[n * C] + C), logits = linear(row, w.output, C);
  return static_cast<index>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// A cycle of decoding: D drafts, one pass of the trunk that verifies them, and between 1 and D + 1
/// tokens behind `tokens`, which are those that the trunk would have written one by one.
inline void decode_cycle(const model& w, text& tokens) {
  const index count = tokens.size(), last = count - 1;
  model_pass a;
  text proposed = tokens;
  if (count >= 2) {  // draft: row last - 1 is the last whose token i + 1 is there
    forward_trunk(a, w, proposed, last);
    for (index k = 1; k <= D; ++k) {
      forward_module(a, w, k, proposed, last);
      proposed.push_back(predict(w, a[k].hidden, last - 1));
    }
  }
  forward_trunk(a, w, proposed, proposed.size());  // verify
  for (index n = last; n < proposed.size(); ++n) {
    tokens.push_back(predict(w, a[0].hidden, n));
    if (n + 1 < proposed.size() && proposed[n + 1] != tokens.back()) break;  // accept up to here
  }
}

}  // namespace plain
