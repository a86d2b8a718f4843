// Runs one model out of three translation units, one of them for other processors.
#include <cstddef>
#include <cstdio>

std::size_t first();
std::size_t second();
std::size_t wide();

int main() {
  bool holds = first() == 4 && second() == 4;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    holds = holds && wide() == 4;
  } else {
    std::puts("without AVX2");
  }
#endif
  return holds ? 0 : 1;
}
