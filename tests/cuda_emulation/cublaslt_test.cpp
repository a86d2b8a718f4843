#include <cublasLt.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "mtp/core/scalar.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::cuda_emulation_cublaslt_cases {

namespace {

template <class T>
constexpr cudaDataType type_of = std::is_same_v<T, double>  ? CUDA_R_64F
                                 : std::is_same_v<T, float> ? CUDA_R_32F
                                                            : CUDA_R_16BF;

struct problem {
  std::uint64_t m, n, k;
  bool transpose_a, transpose_b;
  std::uint64_t padding = 0;  // that leading dimensions have in addition
  std::int32_t batches = 1;
  double alpha = 1, beta = 0;
  bool in_place = false;  // C is D
};

/// A column-major matrix for each batch, on the host and on the device.
template <class T>
struct matrices {
  matrices(std::uint64_t rows, std::uint64_t columns, const problem& p, std::uint64_t stream)
      : ld(rows + p.padding),
        stride(ld * columns + 3 * p.padding),
        elements(stream == 0 ? std::vector<T>(stride * batches(p), poison<T>())
                             : random(p, stream)),
        device(elements) {
    REQUIRE(cublasLtMatrixLayoutCreate(
                &layout, type_of<T>, rows, columns, static_cast<std::int64_t>(ld)) ==
            CUBLAS_STATUS_SUCCESS);
    const auto offset = static_cast<std::int64_t>(stride);
    REQUIRE(cublasLtMatrixLayoutSetAttribute(
                layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &p.batches, sizeof p.batches) ==
            CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatrixLayoutSetAttribute(
                layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset) ==
            CUBLAS_STATUS_SUCCESS);
  }
  ~matrices() { cublasLtMatrixLayoutDestroy(layout); }
  matrices(const matrices&) = delete;
  matrices& operator=(const matrices&) = delete;

  static std::uint64_t batches(const problem& p) { return static_cast<std::uint64_t>(p.batches); }
  std::vector<T> random(const problem& p, std::uint64_t stream) const {
    std::vector<T> all;
    for (const double x : normal(static_cast<index_t>(stride * batches(p)), stream)) {
      all.push_back(stored<T>(x));
    }
    return all;
  }
  std::uint64_t offset(std::uint64_t b, std::uint64_t i, std::uint64_t j) const {
    return b * stride + j * ld + i;
  }
  double operator()(std::uint64_t b, std::uint64_t i, std::uint64_t j) const {
    return static_cast<double>(elements[offset(b, i, j)]);
  }

  std::uint64_t ld, stride;
  std::vector<T> elements;
  device_array<T> device;
  cublasLtMatrixLayout_t layout = nullptr;
};

/// A handle, and the rest that a product needs.
struct blas {
  blas(cublasComputeType_t compute, cudaDataType scale) {
    REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulDescCreate(&operation, compute, scale) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
  }
  ~blas() {
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(operation);
    cublasLtDestroy(handle);
  }
  blas(const blas&) = delete;
  blas& operator=(const blas&) = delete;

  void transpose(cublasLtMatmulDescAttributes_t which, bool transposed) const {
    const cublasOperation_t value = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    REQUIRE(cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof value) ==
            CUBLAS_STATUS_SUCCESS);
  }

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
};

template <class In, class Out>
void check_product(const problem& p) {
  using sum_type = std::conditional_t<std::is_same_v<In, double>, double, float>;
  CAPTURE(p.m);
  CAPTURE(p.n);
  CAPTURE(p.k);
  CAPTURE(p.transpose_a);
  CAPTURE(p.transpose_b);
  CAPTURE(p.beta);
  CAPTURE(p.batches);
  const blas lt(std::is_same_v<In, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                type_of<sum_type>);
  lt.transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a);
  lt.transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b);
  const matrices<In> a(p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p, 1);
  const matrices<In> b(p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p, 2);
  const matrices<Out> c(p.m, p.n, p, p.beta == 0 ? 0 : 3);  // not read unless beta asks for it
  const matrices<Out> d(p.m, p.n, p, 0);
  const matrices<Out>& target = p.in_place ? c : d;

  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  const std::uint64_t workspace_bytes = 4096;
  REQUIRE(cublasLtMatmulPreferenceSetAttribute(lt.preference,
                                               CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace_bytes,
                                               sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatmulAlgoGetHeuristic(lt.handle,
                                         lt.operation,
                                         a.layout,
                                         b.layout,
                                         c.layout,
                                         target.layout,
                                         lt.preference,
                                         1,
                                         &found,
                                         &count) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(count == 1);
  const device_array<char> workspace(workspace_bytes);
  const auto alpha = static_cast<sum_type>(p.alpha), beta = static_cast<sum_type>(p.beta);
  REQUIRE(cublasLtMatmul(lt.handle,
                         lt.operation,
                         &alpha,
                         a.device.data(),
                         a.layout,
                         b.device.data(),
                         b.layout,
                         &beta,
                         c.device.data(),
                         c.layout,
                         target.device.data(),
                         target.layout,
                         &found.algo,
                         workspace.data(),
                         workspace_bytes,
                         nullptr) == CUBLAS_STATUS_SUCCESS);

  const std::vector<Out> actual = target.device.elements();
  std::vector<double> values, expected, bounds;
  std::vector<bool> written(actual.size());
  for (std::uint64_t batch = 0; batch < matrices<In>::batches(p); ++batch) {
    for (std::uint64_t j = 0; j < p.n; ++j) {
      for (std::uint64_t i = 0; i < p.m; ++i) {
        double sum = 0, magnitude = 0;
        for (std::uint64_t q = 0; q < p.k; ++q) {
          const double left = p.transpose_a ? a(batch, q, i) : a(batch, i, q);
          const double right = p.transpose_b ? b(batch, j, q) : b(batch, q, j);
          sum += p.alpha * left * right;
          magnitude += std::abs(p.alpha * left * right);
        }
        const double old = p.beta == 0 ? 0 : p.beta * c(batch, i, j);
        values.push_back(static_cast<double>(actual[d.offset(batch, i, j)]));
        expected.push_back(sum + old);
        double error = dot_bound(
            static_cast<index_t>(p.k) + 3, unit_roundoff<sum_type>, magnitude + std::abs(old));
        if (std::is_same_v<Out, bf16> && p.in_place) {  // the product is rounded by itself
          error = stored_bound<Out>(sum, error);
        }
        bounds.push_back(stored_bound<Out>(sum + old, error));
        written[d.offset(batch, i, j)] = true;
      }
    }
  }
  CHECK(within(values, expected, bounds));
  int beside = 0;
  for (std::size_t at = 0; at < actual.size(); ++at) {
    beside += !written[at] && std::memcmp(&actual[at], &target.elements[at], sizeof(Out)) != 0;
  }
  CHECK(beside == 0);
}

template <class In, class Out>
void check_products() {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      check_product<In, Out>({1, 1, 1, transpose_a, transpose_b});
      check_product<In, Out>({5, 7, 3, transpose_a, transpose_b, 4});
      check_product<In, Out>({4, 3, 33, transpose_a, transpose_b, 1, 3, 0.5});
      check_product<In, Out>({4, 9, 17, transpose_a, transpose_b, 2, 2, 1, 1});
      check_product<In, Out>({6, 5, 8, transpose_a, transpose_b, 2, 2, -2, 0.25, true});
    }
  }
}

TEST_CASE("a product of bf16 is rounded before it is added in place, as on Hopper") {
  const blas lt(CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasLtMatrixLayout_t layout = nullptr;
  REQUIRE(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, 1, 1, 1) == CUBLAS_STATUS_SUCCESS);
  // (1 + 2^-7)^2 = 1 + 2^-6 + 2^-14, whose last part bf16 does not hold.
  const std::vector<bf16> factor{bf16(1 + 0x1p-7f)}, added{bf16(-1 - 0x1p-6f)};
  const device_array<bf16> x(factor), c(added), d(added);
  const float one = 1;
  for (const device_array<bf16>* const to : {&d, &c}) {
    REQUIRE(cublasLtMatmul(lt.handle,
                           lt.operation,
                           &one,
                           x.data(),
                           layout,
                           x.data(),
                           layout,
                           &one,
                           c.data(),
                           layout,
                           to->data(),
                           layout,
                           nullptr,
                           nullptr,
                           0,
                           nullptr) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(static_cast<float>(to->elements()[0]) == (to == &d ? 0x1p-14f : 0.0f));
  }
  cublasLtMatrixLayoutDestroy(layout);
}

TEST_CASE("products of all transposes, strides, batches and types") {
  const long objects = emulation::counts().live_objects, products = emulation::counts().products;
  check_products<double, double>();
  check_products<float, float>();
  check_products<bf16, bf16>();
  check_products<bf16, float>();
  CHECK(emulation::counts().live_objects == objects);
  CHECK(emulation::counts().products == products + 4 * 4 * 5);
}

/// One product [2, 4] = [2, 3] [3, 4] in f32 that a test may spoil.
struct small_product {
  cublasStatus_t find() {
    int count = 0;
    return cublasLtMatmulAlgoGetHeuristic(lt.handle,
                                          lt.operation,
                                          a.layout,
                                          b.layout,
                                          d.layout,
                                          d.layout,
                                          lt.preference,
                                          1,
                                          &found,
                                          &count);
  }
  cublasStatus_t multiply(cudaStream_t stream = nullptr,
                          std::ptrdiff_t shift = 0,
                          void* workspace = nullptr,
                          std::size_t workspace_bytes = 0,
                          bool with_algorithm = true) {
    const float alpha = 1, beta = 0;
    return cublasLtMatmul(lt.handle,
                          lt.operation,
                          &alpha,
                          a.device.data() + shift,
                          a.layout,
                          b.device.data(),
                          b.layout,
                          &beta,
                          d.device.data(),
                          d.layout,
                          d.device.data(),
                          d.layout,
                          with_algorithm ? &found.algo : nullptr,
                          workspace,
                          workspace_bytes,
                          stream);
  }

  problem sizes{2, 4, 3, false, false};
  blas lt{CUBLAS_COMPUTE_32F, CUDA_R_32F};
  matrices<float> a{2, 3, sizes, 1}, b{3, 4, sizes, 2}, d{2, 4, sizes, 0};
  cublasLtMatmulHeuristicResult_t found = {};
};

TEST_CASE("impossible products are refused") {
  const auto set =
      [](cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, auto value) {
        CHECK(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value) ==
              CUBLAS_STATUS_SUCCESS);
      };
  const auto refused = [](cublasStatus_t status, auto spoil) {
    small_product p;
    REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
    spoil(p);
    CHECK(p.multiply(nullptr, 0, nullptr, 0, false) == status);
    CHECK(p.find() == status);
  };
  refused(CUBLAS_STATUS_INVALID_VALUE,
          [&](small_product& p) { set(p.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{1}); });
  refused(CUBLAS_STATUS_INVALID_VALUE, [&](small_product& p) {
    set(p.b.layout, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{2});
  });
  refused(CUBLAS_STATUS_INVALID_VALUE, [&](small_product& p) {
    set(p.d.layout, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{5});
  });
  refused(CUBLAS_STATUS_INVALID_VALUE, [&](small_product& p) {
    set(p.a.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t{2});
  });
  refused(CUBLAS_STATUS_INVALID_VALUE,
          [&](small_product& p) { p.lt.transpose(CUBLASLT_MATMUL_DESC_TRANSA, true); });
  refused(CUBLAS_STATUS_NOT_SUPPORTED, [&](small_product& p) {
    set(p.a.layout, CUBLASLT_MATRIX_LAYOUT_TYPE, std::uint32_t{CUDA_R_64F});
  });
  refused(CUBLAS_STATUS_NOT_SUPPORTED, [&](small_product& p) {
    const std::uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    CHECK(cublasLtMatmulDescSetAttribute(
              p.lt.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) ==
          CUBLAS_STATUS_SUCCESS);
  });

  small_product p;
  const std::int64_t wide = 0;
  CHECK(cublasLtMatmulDescSetAttribute(
            p.lt.operation, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulDescSetAttribute(
            p.lt.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &wide, sizeof wide) ==
        CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_CASE("an algorithm serves what it was chosen for") {
  small_product p;
  REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK(p.multiply(nullptr, 1) == CUBLAS_STATUS_INVALID_VALUE);  // 256 bytes are expected
  const std::uint32_t alignment = 4;
  REQUIRE(cublasLtMatmulPreferenceSetAttribute(p.lt.preference,
                                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                               &alignment,
                                               sizeof alignment) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_AS(p.multiply(nullptr, 1), emulation::fault);  // A ends behind its memory

  const std::uint64_t workspace_bytes = 300;
  REQUIRE(cublasLtMatmulPreferenceSetAttribute(p.lt.preference,
                                               CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace_bytes,
                                               sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
  CHECK(p.found.workspaceSize == 300);
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);
  const device_array<char> workspace(std::vector<char>(300, 'x'));
  CHECK(p.multiply(nullptr, 0, workspace.data(), 300) == CUBLAS_STATUS_SUCCESS);
  CHECK(workspace.elements()[0] != 'x');

  p.lt.transpose(CUBLASLT_MATMUL_DESC_TRANSA, true);
  CHECK(p.multiply(nullptr, 0, workspace.data(), 300) == CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("products are captured, and fail when a test wants it") {
  const restored_settings restored;
  small_product p;
  REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(p.multiply(stream) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(std::isnan(p.d.device.elements()[0]));
  REQUIRE(cudaGraphInstantiate(&instance, graph) == cudaSuccess);
  CHECK(cudaGraphLaunch(instance, stream) == cudaSuccess);
  CHECK_FALSE(std::isnan(p.d.device.elements()[0]));
  cudaGraphDestroy(graph);
  cudaGraphExecDestroy(instance);
  cudaStreamDestroy(stream);

  emulation::fail_next("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(p.multiply() == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  cublasLtHandle_t handle = nullptr;
  emulation::set_device_state(emulation::device_state::none);
  CHECK(cublasLtCreate(&handle) == CUBLAS_STATUS_NOT_INITIALIZED);
  emulation::reset();
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_cublaslt_cases
