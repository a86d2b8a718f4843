#!/usr/bin/env python3
"""One training step of a small DeepSeek-V3 by Hugging Face transformers, driven over stdin/stdout.

The sizes are those of examples/deepseek_v3, next token only. The line `step` runs one training step
(forward, backward, clipping, AdamW, zero_grad) on fresh random tokens and prints its milliseconds;
`quit`, or the end of the input, ends the program.
"""

import argparse
import gc
import math
import sys
import time

import torch
import transformers

BATCH, LENGTH, VOCAB = 16, 256, 256
SIZES = dict(
    vocab_size=VOCAB,
    hidden_size=256,
    intermediate_size=1280,
    moe_intermediate_size=256,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=8,
    n_shared_experts=1,
    n_routed_experts=16,
    num_experts_per_tok=4,
    n_group=4,
    topk_group=2,
    norm_topk_prob=True,
    routed_scaling_factor=2.5,
    first_k_dense_replace=1,
    q_lora_rank=128,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    max_position_embeddings=512,
    num_mtp_layers=0,
    use_cache=False,
)


def make(options):
    config = transformers.DeepseekV3Config(**SIZES)
    config._attn_implementation = "sdpa"
    if options.experts != "default":
        config._experts_implementation = options.experts
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.train()
    if options.compile:
        model.forward = torch.compile(model.forward)
    return model


class Trainer:
    def __init__(self, options):
        self.model = make(options)
        self.bf16 = options.type == "bf16"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        self.loss = math.nan

    def step(self):
        """Returns the milliseconds of one step."""
        start = time.perf_counter()
        tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.model(tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), tokens[:, 1:].flatten()
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = loss.item()
        return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--type", choices=["f32", "bf16"], default="f32", help="bf16: autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--experts", default="default", choices=["default", "eager", "grouped_mm", "batched_mm"]
    )
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first line is read")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    trainer = Trainer(options)
    count = sum(p.numel() for p in trainer.model.parameters())
    print(f"torch {torch.__version__}, transformers {transformers.__version__}", file=sys.stderr)
    print(f"{count} parameters, {options.type}, experts {options.experts}", file=sys.stderr)
    print("compiled" if options.compile else "eager", file=sys.stderr, flush=True)
    for _ in range(options.warmup):
        trainer.step()
    gc.disable()  # a collection would fall into some steps and not into others
    for line in iter(sys.stdin.readline, ""):
        command = line.strip()
        if command == "step":
            print(f"{trainer.step():.3f}", flush=True)
        elif command == "quit":
            break
        elif command:
            sys.exit(f"unknown command: {command}")


if __name__ == "__main__":
    main()
