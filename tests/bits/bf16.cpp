#include "runs.hpp"

int main(int count, char** arguments) {
  return mtp::bits::write_all<mtp::bf16>(count, arguments, "bf16");
}
