// Whole models on the CUDA backend against the CPU: parameters, losses, gradients, training steps
// and text, for every head kind. And what the backend promises by itself: speculative text is plain
// text, and a run gives the same bits twice.
#include <doctest/doctest.h>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "model/agreement.hpp"
#include "model/agreement_checks.hpp"

namespace mtp::test::model_agreement_cases {
namespace {

template <class S>
void check_case(int number) {
  CAPTURE(number);
  CAPTURE(sizeof(S));
  const model_trace expected = trace_on_cpu(number, static_cast<int>(sizeof(S)));
  cuda_context context;
  const model_trace actual = trace_case<cuda, S>(number, context);
  check_agreement<S>(actual, expected);
  check_same_bits(trace_case<cuda, S>(number, context), actual);
}

template <class S>
void check_all(int first, int last) {
  for (int number = first; number < last; ++number) {
    check_case<S>(number);
  }
}

}  // namespace

TEST_CASE("models in f64 agree with the CPU") {
  check_all<double>(0, agreement_cases_in_f64);
}

TEST_CASE("mixtures of experts agree with the CPU") {
  check_case<double>(agreement_case_of_experts);
  check_case<float>(agreement_case_of_experts);
  check_case<bf16>(agreement_case_of_experts);
}

TEST_CASE("models in f32 agree with the CPU") {
  check_all<float>(agreement_cases_in_f64, agreement_cases);
}

TEST_CASE("models in bf16 agree with the CPU") {
  check_all<bf16>(agreement_cases_in_f64, agreement_cases);
}

}  // namespace mtp::test::model_agreement_cases
