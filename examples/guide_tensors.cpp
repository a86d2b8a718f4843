// Page 1 of docs/guide: tensors.
#include <filesystem>
#include <iostream>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/npz.hpp"
#include "mtp/tensor.hpp"

using mtp::cpu;
using mtp::dims;
using mtp::dynamic;
using mtp::extents;
using mtp::tensor;

int main() {
  // Shapes: known to the compiler, known at run time, or both.
  tensor<float, extents<2, 3>, cpu> a({}, {1, 2, 3, 4, 5, 6});               // [2, 3]
  tensor<float, dims<2>, cpu> b(dims<2>(2, 3));                              // [2, 3], zeros
  tensor<double, extents<dynamic, 3>, cpu> c(extents<dynamic, 3>(1000, 3));  // [1000, 3]
  std::cout << a << "\n\n" << c << "\n\n";

  // One element; all elements; a check of the index.
  a(1, 2) = 60;
  for (float& element : b) {
    element = 1;
  }
  try {
    a.at(2, 0) = 0;
    return 1;
  } catch (const mtp::error& refused) {
    std::cout << refused.what() << "\n\n";
  }

  // Views look at elements of a tensor and move nothing.
  const auto row = a.view().select(0, 1);       // [3]
  const auto turned = a.view().transpose();     // [3, 2], strides (1, 3)
  const auto odd = a.view().slice(1, 0, 2, 2);  // [2, 2]: columns 0 and 2
  std::cout << row << "\n\n" << odd << "\n\n";

  // Operators allocate what they return. Operands broadcast.
  const auto centred = a - 2 * b;  // [2, 3]
  const auto scaled = a * row;     // [2, 3]: each row times `row`
  std::cout << centred + scaled << "\n\n";

  // Operations take a context, write into what is there, and allocate nothing.
  mtp::context<cpu> context;
  mtp::add(context, b, a, centred);
  mtp::exp(context, b, b);
  tensor<float, extents<2, 2>, cpu> product;  // [2, 2]
  mtp::matmul(context, product, a, turned);

  // Reductions over any axis; with an axis of size 1 kept, the result broadcasts back.
  const auto sums = mtp::sum(context, a, 0);  // [3]
  tensor<float, extents<2, 1>, cpu> means;    // [2, 1]
  mtp::mean(context, means, a, 1);
  const auto without_mean = a - means;  // [2, 3]
  std::cout << sums << "\n\n" << without_mean << "\n\n";

  // Joining, choosing, counting, copying.
  const auto both = mtp::concatenate(context, 0, a, b);    // [4, 3]
  const auto pair = mtp::stack(context, 0, row, sums);     // [2, 3]
  mtp::where(context, b, without_mean, a, b);              // where a differs from its row's mean
  const auto steps = mtp::arange<float, cpu>(0, 1, 0.25);  // [4]
  const auto columns = mtp::clone(context, turned);        // [3, 2], contiguous
  std::cout << both.shape() << ' ' << pair.shape() << ' ' << steps << "\n\n";

  // NumPy's files, one array or several.
  const auto folder = std::filesystem::temp_directory_path() / "mtp-guide-tensors";
  std::filesystem::create_directories(folder);
  mtp::io::save_npy(folder / "a.npy", a);
  mtp::io::npz_writer archive(folder / "all.npz");
  archive.add("a", a);
  archive.add("both", both);
  archive.commit();
  const auto loaded = mtp::io::load_npy<float, dims<2>, cpu>(folder / "a.npy");  // [2, 3]
  const mtp::io::npz_file file(folder / "all.npz");
  const auto again = file.load<float, extents<4, 3>, cpu>("both");  // [4, 3]
  std::filesystem::remove_all(folder);

  // Bits, or values within tolerances.
  const bool same = columns == turned && loaded == a && again == both;
  const bool close = mtp::all_close(mtp::log(context, mtp::exp(context, steps)), steps, 1e-6, 1e-6);
  std::cout << (same && close ? "same and close\n" : "something is wrong\n");
  return same && close ? 0 : 1;
}
