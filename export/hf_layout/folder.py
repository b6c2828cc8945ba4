"""The folder of the layout: what lies beside the graphs, and how it gets to its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgevlm.bundle import BundleWriter
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.hf_import.files import graph_folder
from edgevlm.export.model_parts import ModelParts

BESIDE = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


class LayoutWriter(BundleWriter):
    """A temporary folder that becomes a folder of graphs on ``publish``, and vanishes otherwise."""

    @staticmethod
    def replaceable(target: Path) -> bool:
        """True for a folder of graphs, and for an empty one."""
        if not target.is_dir():
            return False
        return graph_folder(target) == target / "onnx" or not any(target.iterdir())


def copy_beside(checkpoint: Checkpoint, parts: ModelParts, root: Path, graphs: int) -> None:
    """Configuration, processor, tokenizer, template and licences.

    Args:
        checkpoint: the source.
        parts: read from it.
        root: the folder; ``onnx`` is there already.
        graphs: number of graph files whose data lies beside them.
    """
    names = [n for n in BESIDE if (checkpoint.folder / n).is_file()]
    for path in [checkpoint.folder / n for n in [*names, *parts.licenses]]:
        shutil.copyfile(path, root / path.name)
    if not (root / "tokenizer.json").exists() and parts.tokenizer is not None:
        parts.tokenizer.save(str(root / "tokenizer.json"))
    if parts.image is not None and not (root / "preprocessor_config.json").exists():
        text = json.dumps(checkpoint.processor, indent=2, ensure_ascii=False)
        (root / "preprocessor_config.json").write_text(text + "\n", "utf-8")
    if graphs:  # transformers.js asks the configuration whether to look for them
        _name_data_files(root)


def _name_data_files(root: Path) -> None:
    config = json.loads((root / "config.json").read_text("utf-8"))
    settings = config.setdefault("transformers.js_config", {})
    settings["use_external_data_format"] = {
        path.name.removesuffix("_data"): 1 for path in sorted(root.glob("onnx/*.onnx_data"))
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (root / "config.json").write_text(text + "\n", "utf-8")
