// Texts to tokens and back: reads, trains and writes byte-level tokenizers.
#pragma once

#include "mtp/io/tokenizer/save_tokenizer.hpp"
#include "mtp/io/tokenizer/token_text_stream.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"
#include "mtp/io/tokenizer/tokenizer_files.hpp"
#include "mtp/io/tokenizer/tokenizer_json.hpp"
#include "mtp/io/tokenizer/train_tokenizer.hpp"
