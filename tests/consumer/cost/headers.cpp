// What including the library costs by itself.
#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"
