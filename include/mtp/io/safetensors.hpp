// Tensors in files of the safetensors format: a strict reader and an atomic writer.
#pragma once

/// \namespace mtp::io
/// Files: safetensors, and checkpoints made of them. For POSIX systems.

#include "mtp/io/safetensors_format.hpp"
#include "mtp/io/safetensors_reader.hpp"
#include "mtp/io/safetensors_writer.hpp"
