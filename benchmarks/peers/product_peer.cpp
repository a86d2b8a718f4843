// Multiplies on command, so that alternate.py can let it take turns with another implementation.
// Reads commands line by line:
//
//   KIND TYPE M N K    multiplies M rows by a weight W[N, K] until all threads are awake, then once
//                      more, and prints the milliseconds of that
//   quit
//
// KIND is forward (x W^T), input (the gradient dy W) or weight (the gradient dy^T x); TYPE is f32
// or bf16, whose sums are f32. Operands stay until others are asked for.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "bench.hpp"
#include "mtp/ops/linear.hpp"
#include "waking.hpp"

namespace {

using namespace mtp;

struct product_size {
  index_t M, N, K;
};

template <scalar S>
class products {
 public:
  products(cpu_context& context, product_size size)
      : context_(context),
        size_(size),
        x_(size.M * size.K),
        dx_(size.M * size.K),
        y_(size.M * size.N),
        w_(backend_traits<cpu>::weight_storage<S>(size.N, size.K)),
        dw_(backend_traits<cpu>::weight_storage<float>(size.N, size.K)) {
    fill(x_, size.M * size.K, 1);
    fill(y_, size.M * size.N, 2);
    const bench::random_pattern random(3);
    const weight_view<S, cpu> w{w_.data(), size.N, size.K};
    for (index_t n = 0; n < size.N; ++n) {
      for (index_t k = 0; k < size.K; ++k) {
        w(n, k) = S(random(n * size.K + k));
      }
    }
  }

  void run(const std::string& kind) {
    const auto [M, N, K] = size_;
    const auto x = matrix(x_, M, K), dx = matrix(dx_, M, K), y = matrix(y_, M, N);
    const weight_view<S, cpu> w{w_.data(), N, K};
    if (kind == "forward") {
      linear_forward(context_, y, x, w);
    } else if (kind == "input") {
      linear_backward_input(context_, dx, y, w);
    } else {
      linear_backward_weight(context_, weight_view<float, cpu>{dw_.data(), N, K}, y, x);
    }
  }

 private:
  using elements = buffer<S, cpu>;

  static void fill(elements& to, index_t count, std::uint64_t stream) {
    const bench::random_pattern random(stream);
    for (index_t i = 0; i < count; ++i) {
      to.data()[i] = S(random(i));
    }
  }
  static view<S, dims<2>, cpu> matrix(elements& of, index_t rows, index_t columns) {
    return {of.data(), dims<2>{rows, columns}};
  }

  cpu_context& context_;
  product_size size_;
  elements x_, dx_, y_, w_;
  buffer<float, cpu> dw_;
};

using runner = std::function<void(const std::string& kind)>;

template <scalar S>
runner make_runner(cpu_context& context, product_size size) {
  return [made = std::make_shared<products<S>>(context, size)](const std::string& kind) {
    made->run(kind);
  };
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 1 && (argc != 3 || std::string(argv[1]) != "--threads")) {
    std::fprintf(stderr, "usage: product_peer [--threads N]\n");
    return 2;
  }
  cpu_context context({.threads = argc == 3 ? std::atoi(argv[2]) : 2});
  runner run;
  std::string made_for;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string kind, type;
    product_size size{};
    words >> kind >> type >> size.M >> size.N >> size.K;
    const std::string wanted = line.substr(line.find(' '));
    if (wanted != made_for) {
      run = nullptr;  // its memory, before more is taken
      run = type == "bf16" ? make_runner<bf16>(context, size) : make_runner<float>(context, size);
      made_for = wanted;
    }
    bench::wake_up([&] { run(kind); });
    const auto start = std::chrono::steady_clock::now();
    run(kind);
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - start;
    std::printf("%.4f\n", spent.count());
    std::fflush(stdout);
  }
}
