"""Export random checkpoints of real size, and say what it took.

``python -m benchmarks.real_size_export smolvlm-256m`` (or ``qwen2-vl-2b``) writes a checkpoint of
that shape with random bfloat16 weights, exports it with the command, and prints the time of every
stage and the peak resident memory of every process. The numbers inside are random; the certificate
is computed as for any other checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLL_S = 0.05

TOKENS = {
    "smolvlm-256m": ["<image>", "<fake_token_around_image>", "<global-img>"]
    + [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)],
    "qwen2-vl-2b": ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"],
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def smolvlm_256m(first: int) -> tuple[Any, dict[str, Any], str]:
    """Config, image processor and prompt marker of SmolVLM-256M's shape."""
    import transformers

    config = transformers.SmolVLMConfig(
        text_config={
            "model_type": "llama", "vocab_size": 49280, "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
            "tie_word_embeddings": False,
        },
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
        },
        scale_factor=4, image_token_id=first, tie_word_embeddings=False, pad_token_id=None,
    )  # fmt: skip
    processor = {
        "do_image_splitting": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "resample": 1, "max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 512},
        "image_processor_type": "SmolVLMImageProcessor",
    }  # fmt: skip
    return config, processor, "<image>"


def qwen2_vl_2b(first: int) -> tuple[Any, dict[str, Any], str]:
    """Config, image processor and prompt marker of Qwen2-VL-2B's shape."""
    import transformers

    config = transformers.Qwen2VLConfig(
        text_config={
            "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960,
            "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
            "max_position_embeddings": 32768, "bos_token_id": 0, "eos_token_id": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        vision_start_token_id=first, image_token_id=first + 1, vision_end_token_id=first + 2,
        video_token_id=first + 3, tie_word_embeddings=True,
    )  # fmt: skip
    processor = {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "min_pixels": 3136,
        "max_pixels": 448 * 448, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "resample": 3, "image_processor_type": "Qwen2VLImageProcessor",
    }  # fmt: skip
    return config, processor, "<|vision_start|><|image_pad|><|vision_end|>"


SHAPES = {"smolvlm-256m": smolvlm_256m, "qwen2-vl-2b": qwen2_vl_2b}


def bytes_tokenizer() -> Any:
    """One token a byte, and the two marks of a chat turn."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in words[:2]])
    return tokenizer


def write_checkpoint(shape: str, folder: Path, tokenizer: Any = None) -> None:
    """A checkpoint folder with random weights, and with ``tokenizer`` in place of bytes."""
    import torch
    import transformers
    from tokenizers import AddedToken

    tokenizer = tokenizer or bytes_tokenizer()
    first = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in TOKENS[shape]]
    )
    config, processor, marker = SHAPES[shape](first)
    torch.manual_seed(0)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    model = model.to_empty(device="cpu").to(torch.bfloat16)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or "ln_q" in name:
                value.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                value.normal_(0, 0.02)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("IMAGE", marker))


def processes(root: int) -> Iterator[int]:
    """A process and everything below it."""
    yield root
    path = Path(f"/proc/{root}/task")
    try:
        tasks = [task / "children" for task in path.iterdir()]
        children = [int(c) for task in tasks for c in task.read_text().split()]
    except OSError:
        return
    for child in children:
        yield from processes(child)


def watch(root: int, peaks: dict[str, int], done: threading.Event) -> None:
    """Keep the highest resident memory of every process, by what it runs."""
    while not done.wait(POLL_S):
        for pid in processes(root):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            words = [w.decode() for w in line]
            module = words[words.index("-m") + 1] if "-m" in words else "export"
            for field in ("RssAnon", "VmHWM"):
                value = status.partition(f"{field}:")[2].split()
                if value:
                    key = f"{module} {field}"
                    peaks[key] = max(peaks.get(key, 0), int(value[0]) * 1024)


def cpu_seconds() -> float:
    """Processor time of the child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(shape: str, precision: str, folder: Path) -> dict[str, Any]:
    """Export once and collect."""
    target, done = folder / f"bundle-{precision}", threading.Event()
    peaks: dict[str, int] = {}
    begun, cpu_begun = time.perf_counter(), cpu_seconds()
    command = [sys.executable, "-m", "edgevlm", "export", str(folder / "checkpoint"),
               "-o", str(target), "--precision", precision, "--allow-drift", "--json"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        thread = threading.Thread(target=watch, args=(child.pid, peaks, done), daemon=True)
        thread.start()
        printed = child.stdout.read() if child.stdout else ""
    done.set()
    thread.join()
    if child.returncode != 0:
        raise SystemExit(child.returncode)
    seconds = time.perf_counter() - begun
    backend = json.loads(printed)["parity"]["backends"][0]
    largest = max(p.stat().st_size for p in target.glob("*.data"))
    return {
        "shape": shape,
        "precision": precision,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds() - cpu_begun, 1),
        "peak_mb": {name: round(value / 1e6) for name, value in sorted(peaks.items())},
        "largest_graph_mb": round(largest / 1e6),
        "bundle_mb": round(sum(p.stat().st_size for p in target.rglob("*") if p.is_file()) / 1e6),
        "logits": backend["logits"],
        "greedy": backend["greedy"],
        "stages": {s["stage"]: s["cosine"] for s in backend["stages"]},
    }


def main() -> None:
    """Write the checkpoint, export it, print one JSON object a precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="edgevlm-real-size-"))
    try:
        if not (folder / "checkpoint" / "config.json").is_file():
            write_checkpoint(chosen.shape, folder / "checkpoint")
        for precision in chosen.precision:
            found = run(chosen.shape, precision, folder)
            found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
            print(json.dumps(found), flush=True)
    finally:
        if chosen.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
