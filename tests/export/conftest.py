"""SmolLM2 as transformers loads it, once a session, and a small checkpoint to be damaged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.export.tiny import Checkpoint


@dataclass(frozen=True)
class Reference:
    """transformers' model (float32) and tokenizer, both from nano's GGUF file."""

    model: Any
    tokenizer: Any


@pytest.fixture(scope="session")
def smollm2() -> Reference:
    import torch
    import transformers

    from edgevlm.export.nano.packages import DECODER

    torch.set_num_threads(2)
    path = DECODER.locate()
    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    return Reference(model.eval(), transformers.AutoTokenizer.from_pretrained(**source))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A llama of one layer; read only."""
    from tests.export.tiny import config, save

    return save(tmp_path_factory.mktemp("bad") / "model", config("llama", num_hidden_layers=1))


@pytest.fixture
def checkpoint(pristine: Checkpoint, tmp_path: Path) -> Checkpoint:
    """A copy of it."""
    shutil.copytree(pristine.folder, tmp_path / "model")
    return type(pristine)(tmp_path / "model", pristine.model)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder for bundles."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder
