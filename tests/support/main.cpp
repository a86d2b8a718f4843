// The main function of test executables.
#include "support/run_tests.hpp"

int main(int argc, char** argv) {
  return mtp::test::run_tests(argc, argv);
}
