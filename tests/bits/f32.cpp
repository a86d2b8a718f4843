#include "runs.hpp"

int main(int count, char** arguments) {
  return mtp::bits::write_all<float>(count, arguments, "f32");
}
