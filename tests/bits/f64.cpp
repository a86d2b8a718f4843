#include "runs.hpp"

int main(int count, char** arguments) {
  return mtp::bits::write_all<double>(count, arguments, "f64");
}
