"""The worker that stands for transformers answers as transformers itself does."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from edgevlm.errors import BackendUnavailable
from edgevlm.export.nano.packages import DECODER
from edgevlm.runtime.device.compare import PeerProcess
from edgevlm.runtime.device.peers.protocol import prompt_ids


@pytest.mark.slow
def test_it_chooses_what_generate_chooses():
    weights = DECODER.locate()
    peer = PeerProcess("transformers", ["--weights", str(weights), "--threads", "1"])
    try:
        found = peer.run(12, 4)
        again = peer.run(12, 4)
    finally:
        peer.close()
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent, gguf_file=weights.name, dtype=torch.float32
    )
    ids = torch.tensor([prompt_ids(12)])
    expected = model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert found["tokens"] == again["tokens"] == expected[0, 12:].tolist()


def test_absent_weights_are_said():
    with pytest.raises(BackendUnavailable, match=r"transformers does not start.*no weights at"):
        PeerProcess("transformers", ["--weights", "/nowhere/model.gguf"])
