// Tensors and what can be done with them, without models: core, operations, operators, text.
// Include a backend before or after: <mtp/backend/cpu.hpp>.
#pragma once

#include "mtp/core/backend.hpp"
#include "mtp/core/broadcast.hpp"
#include "mtp/core/equality.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/print.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/create.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/functions.hpp"
#include "mtp/ops/join.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/operators.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/reduce_axis.hpp"
#include "mtp/ops/softmax.hpp"
