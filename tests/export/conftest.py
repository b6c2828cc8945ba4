"""SmolLM2 as transformers loads it, once a session: dequantising a GGUF file takes a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest


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
