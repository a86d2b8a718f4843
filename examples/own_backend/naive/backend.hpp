// All operations of the backend: those that models call, whatever their head.
#pragma once

#include "attention.hpp"
#include "choosing.hpp"
#include "combine.hpp"
#include "decoding.hpp"
#include "loss.hpp"
#include "products.hpp"
#include "rope_attention.hpp"
#include "rows.hpp"

struct naive_ops : mtp::no_workspace,
                   naive_types::row_ops,
                   naive_types::product_ops,
                   naive_types::attention_ops,
                   naive_types::rope_attention_ops,
                   naive_types::combine_ops,
                   naive_types::loss_ops,
                   naive_types::decoding_ops,
                   naive_types::choosing_ops {};
