#!/usr/bin/env python3
"""Writes tiny random checkpoints of each family with logits of Hugging Face transformers.

Each folder <family>/ beside this script receives config.json, model.safetensors (or shards and an
index) and expected.safetensors: tokens [T] i32 and logits [T, V] f32, computed in float32. Where
the family has a module for multi-token prediction, its tensors stand in the checkpoint as well and
expected.safetensors has mtp_logits [T - 1, V].

Mixtures of experts have gradients.safetensors as well, by autograd in float64, of L_0 + .. + L_D +
ALPHA times the balance of experts: losses [D + 1] in nats, balance [1], and gradients: for the
tensors of the checkpoint in the order of their names, one after the other, the gradient of a vector
as it is and two projections of a matrix's, gradient @ cosines [out] and cosines @ gradient [in],
where cosines are cos(1), cos(2), .. of as many elements as are summed.

Usage: transformers_models.py [OUTPUT_DIRECTORY]     (tested with transformers 5.24, torch 2.15)
"""

import copy
import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.modeling_layers import MtpModel

torch.set_num_threads(1)

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(
    rope_type="yarn",
    rope_theta=10000.0,
    factor=4.0,
    beta_fast=4.0,
    beta_slow=0.5,
    original_max_position_embeddings=16,
)
ALPHA = 0.5  # of the balance of experts
SOFTMAX = torch.nn.Softmax(dim=-1)
ABSENT = object()  # in place of a size that the family does not have
LATENT = dict(
    num_attention_heads=2,
    num_key_value_heads=2,
    q_lora_rank=20,
    kv_lora_rank=24,
    qk_nope_head_dim=32,
    qk_rope_head_dim=8,
    v_head_dim=32,
    head_dim=ABSENT,
)
EXPERTS = dict(moe_intermediate_size=16, num_experts_per_tok=3)
ROUTED = dict(EXPERTS, n_routed_experts=8, n_shared_experts=2, routed_scaling_factor=1.5)
CASES = {
    "llama": (transformers.LlamaConfig, dict(rope_parameters=LLAMA3), torch.float32, "5GB"),
    "smollm2": (transformers.LlamaConfig, dict(tie_word_embeddings=True), torch.bfloat16, "5GB"),
    "mistral": (transformers.MistralConfig, dict(sliding_window=None), torch.float16, "5GB"),
    "qwen2": (transformers.Qwen2Config, dict(), torch.float32, "30KB"),
    "qwen3": (
        transformers.Qwen3Config,
        dict(head_dim=16, tie_word_embeddings=True, rope_parameters=YARN),
        torch.float32,
        "5GB",
    ),
    "glm4": (
        transformers.Glm4Config,
        dict(
            attention_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5),
            pad_token_id=None,
        ),
        torch.float32,
        "5GB",
    ),
    "deepseek_v3": (
        transformers.DeepseekV3Config,
        dict(
            LATENT,
            **ROUTED,
            n_group=4,
            topk_group=2,
            first_k_dense_replace=1,
            num_mtp_layers=1,
            rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=0.7),
        ),
        torch.float32,
        "5GB",
    ),
    "glm4_moe_lite": (
        transformers.Glm4MoeLiteConfig,
        dict(LATENT, **ROUTED, v_head_dim=64, q_lora_rank=None, norm_topk_prob=False),
        torch.bfloat16,
        "5GB",
    ),
    "glm4_moe": (
        transformers.Glm4MoeConfig,
        dict(
            ROUTED,
            attention_bias=True,
            use_qk_norm=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5),
            num_mtp_layers=1,
        ),
        torch.bfloat16,
        "5GB",
    ),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        dict(EXPERTS, num_experts=8, norm_topk_prob=True),
        torch.bfloat16,
        "5GB",
    ),
    "mixtral": (
        transformers.MixtralConfig,
        dict(intermediate_size=16, num_local_experts=8, num_experts_per_tok=2),
        torch.bfloat16,
        "5GB",
    ),
}


def randomize(tensors, generator, dtype):
    with torch.no_grad():
        for tensor in tensors:
            noise = torch.randn(tensor.shape, generator=generator)
            # Biases and scales of norms count as well; matrices keep the size of their rows.
            scale = 0.3 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
            offset = 1.0 if tensor.ndim == 1 else 0.0
            tensor.copy_((offset + scale * noise).to(dtype).float())


def correction_biases(model):
    return [b for name, b in model.named_buffers() if name.endswith("e_score_correction_bias")]


@contextmanager
def in_double():
    """What the models convert to float32, whatever their type is, becomes float64."""
    single, convert = torch.float32, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32 = torch.float = single
        torch.Tensor.float = convert


def module_tensors(model, layer):
    """The tensors of a module behind the last block, in the names of DeepSeek-V3."""
    place = f"model.layers.{model.config.num_hidden_layers}."
    stored = {}
    for name, value in layer.state_dict().items():
        name = name.replace("mtp_block.", "").replace("post_norm.", "shared_head.norm.")
        if name.endswith("experts.gate_up_proj"):
            for expert, (gate, up) in enumerate(v.chunk(2) for v in value):
                stem = place + name.replace("gate_up_proj", f"{expert}.")
                stored[stem + "gate_proj.weight"] = gate.contiguous()
                stored[stem + "up_proj.weight"] = up.contiguous()
        elif name.endswith("experts.down_proj"):
            for expert, down in enumerate(value):
                stem = place + name.replace("down_proj", f"{expert}.")
                stored[stem + "down_proj.weight"] = down.contiguous()
        else:
            stored[place + name] = value
    return stored


def module_logits(model, module, hidden, tokens):
    positions = torch.arange(1, 1 + len(tokens))[None]
    output = module.forward_layer(0, hidden, positions, None, input_ids=tokens[None])
    return module._project_to_logits(output)[0]


def make_module(model, generator, dtype):
    module = MtpModel(model, 1).eval()
    layer = module.layers[0]
    randomize([*layer.parameters(), *correction_biases(layer)], generator, dtype)
    return module


def add_module(folder, model, module, tokens, dtype):
    """Writes a module's tensors into the checkpoint; its logits."""
    with torch.no_grad():
        hidden = model.model(tokens[None]).last_hidden_state[:, :-1]
        logits = module_logits(model, module, hidden, tokens[1:])
    stored = load_file(folder / "model.safetensors")
    layer = copy.deepcopy(module.layers[0]).to(dtype)
    stored.update(module_tensors(model, layer))
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return logits


def as_parameters(gradients_of):
    """A copy whose parameters are the gradients, so that it is saved as a checkpoint of them."""
    holder = copy.deepcopy(gradients_of)
    with torch.no_grad():
        for to, source in zip(holder.parameters(), gradients_of.parameters(), strict=True):
            to.copy_(torch.zeros_like(source) if source.grad is None else source.grad)
    return holder


def watch_routers(parts, scores, balances):
    """Lets each router add its loss of DeepSeek-V3's equations 17 to 20, of one sequence."""

    def hook(router, inputs, outputs):
        logits, _, chosen = outputs  # [T, E], [T, k], [T, k]
        share = scores(logits)
        share = share / share.sum(-1, keepdim=True)
        load = torch.zeros_like(share).scatter_(1, chosen, 1.0).mean(0)
        balances.append((load * share.mean(0)).sum() * logits.shape[1] / chosen.shape[1])

    for part in parts.modules():
        if "Router" in type(part).__name__:
            part.register_forward_hook(hook)


def projections(gradient):
    if gradient.ndim == 1:
        return [gradient]
    out, inputs = (torch.cos(torch.arange(1, 1 + n, dtype=torch.float64)) for n in gradient.shape)
    return [gradient @ inputs, out @ gradient]


def write_gradients(folder, model, module, tokens):
    """Over the longest window, whose sums are divided by its T positions."""
    depth = 0 if module is None else 1
    T = len(tokens) - 1 - depth
    with in_double():
        weights, config = model.state_dict(), model.config
        config._experts_implementation = "eager"  # the grouped one has no float64
        model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
        model.load_state_dict(weights)
        balances = []
        scores = torch.sigmoid if "n_shared_experts" in config.to_dict() else SOFTMAX
        watch_routers(model, scores, balances)
        hidden = model.model(tokens[None, :T]).last_hidden_state
        logits = [model.lm_head(hidden)[0]]
        if module is not None:
            weights = module.layers[0].state_dict()
            module = MtpModel(model, 1).double().eval()
            module.layers[0].load_state_dict(weights)
            watch_routers(module.layers[0], scores, balances)
            logits.append(module_logits(model, module, hidden, tokens[1 : 1 + T]))
        losses = [
            torch.nn.functional.cross_entropy(rows, tokens[1 + k : 1 + k + T].long())
            for k, rows in enumerate(logits)
        ]
        assert len(balances) > depth  # at least one of the trunk
        (sum(losses) + ALPHA * sum(balances)).backward()
    with tempfile.TemporaryDirectory() as saved:
        as_parameters(model).save_pretrained(saved)
        stored = load_file(Path(saved) / "model.safetensors")
    if module is not None:
        stored.update(module_tensors(model, as_parameters(module.layers[0])))
    parts = [
        part
        for name in sorted(stored)
        if not name.endswith("e_score_correction_bias")
        for part in projections(stored[name])
    ]
    assert all(part.dtype == torch.float64 for part in parts)
    save_file(
        {
            "losses": torch.stack(losses).detach(),
            "balance": sum(balances).detach()[None],
            "gradients": torch.cat(parts).float(),
        },
        folder / "gradients.safetensors",
    )


def write(folder, config_class, changes, dtype, shard_size):
    config = config_class(**{key: value for key, value in {**SIZES, **changes}.items() if value is not ABSENT})
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    randomize([*model.parameters(), *correction_biases(model)], generator, dtype)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    # Read anew: a conversion of the model would round the rotary frequencies as well.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, SIZES["vocab_size"], (48,), generator=generator)
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    for extra in folder.glob("generation_config.json"):
        extra.unlink()
    expected = {"tokens": tokens.int(), "logits": logits.contiguous()}
    module = None
    if changes.get("num_mtp_layers", 0) > 0:
        module = make_module(model, generator, dtype)
        expected["mtp_logits"] = add_module(folder, model, module, tokens, dtype).contiguous()
    save_file(expected, folder / "expected.safetensors")
    if "num_experts_per_tok" in changes:
        write_gradients(folder, model, module, tokens)


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, case in CASES.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder, *case)
        files = sorted(path.name for path in folder.iterdir())
        print(name, sum(path.stat().st_size for path in folder.iterdir()), "bytes:", *files)


if __name__ == "__main__":
    main()
