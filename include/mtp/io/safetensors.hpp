// Tensors in files of the safetensors format: a strict reader and an atomic writer.
#pragma once

#include "mtp/io/safetensors_format.hpp"
#include "mtp/io/safetensors_reader.hpp"
#include "mtp/io/safetensors_writer.hpp"
