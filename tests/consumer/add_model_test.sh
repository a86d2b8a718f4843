#!/usr/bin/env bash
# mtp_add_model: from a config.json to a type, in a project that finds the installed package.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

install_library "$scratch/prefix"
export CMAKE_PREFIX_PATH=$scratch/prefix:${CMAKE_PREFIX_PATH:-}

# ---- every family -------------------------------------------------------------------------------
cp "$consumer"/add_model/* .
mkdir checkpoints
cp -r "$MTP_SOURCE_DIR"/tests/io/pretrained/data/*/ checkpoints
with() { # with NAME BASE FIELDS: a checkpoint NAME whose config.json is BASE's with more fields in front
  mkdir -p "checkpoints/$1"
  sed "1s/{/{ $3,/" "checkpoints/$2/config.json" >"checkpoints/$1/config.json"
}
with deepseek qwen3 '"num_nextn_predict_layers": 2'
with medusa llama '"medusa_num_heads": 3'
with meta mistral '"n_future_tokens": 4'
with mimo qwen2 '"num_nextn_predict_layers": 1'
sed -i 's/"model_type": "qwen2"/"model_type": "mimo"/' checkpoints/mimo/config.json
mkdir checkpoints/glm_ocr # the language model is a part of its configuration
{
  echo '{"model_type": "glm_ocr", "text_config":'
  sed 's/"glm4"/"glm_ocr_text"/; /"attention_bias"/d; 1s/{/{ "num_nextn_predict_layers": 1,/' checkpoints/glm4/config.json
  echo '}'
} >checkpoints/glm_ocr/config.json
sed -i 's/"mscale": 1.0/"mscale": 0.7/' checkpoints/deepseek_v3/config.json # CMake has no logarithm for their ratio
build_and_run "$@"

# A config.json that changes is read again.
sed -i 's/"vocab_size": 64/"vocab_size": 65/' checkpoints/mistral/config.json
quietly cmake --build build --target build.ninja
grep -q 'vocab_size = 65' build/mtp_models_of_program/mtp_models/mistral.hpp || fail "the vocabulary was not read anew"

# ---- what is refused ----------------------------------------------------------------------------
mkdir refused
cat >refused/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(refused LANGUAGES CXX)
find_package(mtp REQUIRED)
add_executable(program program.cpp)
mtp_add_model(program NAME x CHECKPOINT .)
END
touch refused/program.cpp
refuses() { # refuses SENTENCE FIELDS
  sed "1s/{/{ $2,/" checkpoints/llama/config.json >refused/config.json
  ! cmake -S refused -B refused/build >output.txt 2>&1 || fail "accepted: $2"
  grep -qF -e "$1" <<<"$(tr -s ' \n' ' ' <output.txt)" || fail "$2 is not refused with \"$1\": $(cat output.txt)"
}
erase() { sed -i "/\"$1\"/d" checkpoints/llama/config.json; }
for field in hidden_act mlp_bias attention_bias model_type; do erase "$field"; done
refuses 'model_type = "gpt2" is not supported' '"model_type": "gpt2"'
refuses 'model_type = "mimo_v2" is not supported' '"model_type": "mimo_v2"'
llama='"model_type": "llama"'
refuses 'hidden_act = gelu is not supported' "$llama, \"hidden_act\": \"gelu\""
refuses 'mlp_bias = ON is not supported' "$llama, \"mlp_bias\": true"
refuses 'attention_bias = ON is not supported' "$llama, \"attention_bias\": true"
refuses 'partial_rotary_factor = 0.5 is not supported' "$llama, \"partial_rotary_factor\": 0.5"
refuses 'sliding_window = 63 is not supported' "$llama, \"sliding_window\": 63"
refuses 'q_lora_rank = 8 is not supported' "$llama, \"q_lora_rank\": 8"
refuses 'quant_method = gptq is not supported' "$llama, \"quantization_config\": {\"quant_method\": \"gptq\"}"
erase hidden_size
refuses 'hidden_size: expected a whole number from 1 to 2147483647, got' "$llama"
refuses 'hidden_size: expected a whole number from 1 to 2147483647, got -1' "$llama, \"hidden_size\": -1"
rm refused/config.json
! cmake -S refused -B refused/build >output.txt 2>&1 || fail "a folder without config.json was accepted"
grep -qF 'does not exist' <<<"$(tr -s ' \n' ' ' <output.txt)" || fail "$(cat output.txt)"
