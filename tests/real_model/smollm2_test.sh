#!/usr/bin/env bash
# SmolLM2-135M-Instruct, where scripts/fetch_models has put it: tokens, logits and 220 greedy tokens for each of two
# prompts against an independent implementation. MTP_MODELS names the folder of models, if it is not build/models.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?}"
checkpoint=${MTP_MODELS:-build/models}/smollm2
if [[ ! -e $checkpoint/config.json ]]; then
  echo "skipped: $checkpoint is not there; scripts/fetch_models smollm2 makes it"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! { cmake -S tests/real_model/smollm2 -B "$scratch" -G Ninja "-DCHECKPOINT=$(realpath "$checkpoint")" &&
  cmake --build "$scratch" --target smollm2; } >"$scratch/log" 2>&1; then
  tail -n 30 "$scratch/log"
  exit 1
fi
"$scratch/smollm2"
