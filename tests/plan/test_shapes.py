"""Costs from dimensions against figures that papers print, and against the exporter's graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from edgevlm.bundle.images import Fit, Idefics3Tiles, ImageSpec, SmartResize
from edgevlm.cost import GraphCost, PictureSetting, Weights
from edgevlm.cost.shapes import DecoderShape, EncoderShape, decoder_cost, encoder_cost
from edgevlm.errors import ConfigError
from edgevlm.export.cost.source import source_sheet
from edgevlm.export.model_parts import ExportOptions
from edgevlm.runtime.device.plan.frames import frame_cost
from edgevlm.runtime.device.plan.published import models
from tests.export.encoders import tiny as encoders

NOTHING = GraphCost(unit="tiles", work={}, weights=Weights(total={}, largest={}))


@pytest.mark.parametrize(
    ("shape", "patches", "gmacs", "millions"),
    [
        # Touvron et al., "DeiT III", 2022, table 3; Dosovitskiy et al., 2021, table 1.
        (EncoderShape(layers=12, hidden=768, inner=3072, patch=16, extra=1), 14**2, 17.5, 86),
        (EncoderShape(layers=24, hidden=1024, inner=4096, patch=16, extra=1), 14**2, 61.6, 304),
        # Liu et al., "Swin Transformer", 2021, table 1a: ViT-B/16 at 384.
        (EncoderShape(layers=12, hidden=768, inner=3072, patch=16, extra=1), 24**2, 55.4, 86),
    ],
)
def test_vision_transformers_cost_what_papers_print(
    shape: EncoderShape, patches: int, gmacs: float, millions: float
):
    cost = encoder_cost(shape)
    products = [cost.work[kind].flops.at(patches) for kind in ("matmul", "attention")]
    assert sum(products) / 2e9 == pytest.approx(gmacs, rel=0.015)
    assert cost.weights.count / 1e6 == pytest.approx(millions, rel=0.02)


def test_a_decoder_has_the_published_number_of_parameters():
    """SmolLM2-135M: 134.5 M. Qwen3-1.7B: 1.7 B, of which 1.4 B no embedding (model cards)."""
    smol = DecoderShape(
        layers=30, hidden=576, inner=1536, heads=9, kv_heads=3, head_dim=64, vocab=49152
    )
    assert decoder_cost(smol).weights.count / 1e6 == pytest.approx(134.5, rel=0.001)
    qwen = models()["qwen3-vl-2b"].decoder
    assert qwen is not None
    assert qwen.layer_weights / 1e9 == pytest.approx(1.4, rel=0.02)
    assert decoder_cost(qwen).weights.count / 1e9 == pytest.approx(1.7, rel=0.02)


def test_a_cached_token_takes_what_the_cards_say():
    """Qwen2.5-0.5B: 24 layers, 2 heads of 64, float16: 12 KiB a token."""
    shape = DecoderShape(
        layers=24, hidden=896, inner=4864, heads=14, kv_heads=2, head_dim=64, vocab=151936
    )
    assert shape.kv_values_per_token * 2 == 12 * 1024


def test_a_graph_of_the_exporter_costs_what_its_dimensions_say(tmp_path: Path):
    """CLIP's tower, counted op by op, against the formulas."""
    encoders.clip(tmp_path / "c")
    whole = transformers.CLIPConfig.from_pretrained(tmp_path / "c")
    config = whole.vision_config
    sheet = source_sheet(str(tmp_path / "c"), ExportOptions())
    shape = EncoderShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        patch=config.patch_size,
        extra=1,
    )
    patches = (config.image_size // config.patch_size) ** 2
    expected, found = encoder_cost(shape), sheet.settings[0].vision
    projection = 2 * config.hidden_size * whole.projection_dim
    pixels = 2 * patches * 3 * config.patch_size**2 * config.hidden_size
    assert found.work["convolution"].flops.at(1) == pytest.approx(pixels)
    matmul = expected.work["matmul"].flops.at(patches) - pixels + projection
    assert found.work["matmul"].flops.at(1) == pytest.approx(matmul, rel=1e-6)
    attention = expected.work["attention"].flops.at(patches)
    assert found.work["attention"].flops.at(1) == pytest.approx(attention, rel=1e-6)
    assert found.flops(3) == pytest.approx(3 * found.flops(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_counter_agrees_with_torch_on_a_convolutional_tower():
    """torch counts the operations of a small network as it runs; the graph is its ONNX form."""
    import io

    import onnx
    from torch.utils.flop_counter import FlopCounterMode

    from edgevlm.export.cost.counter import count

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1, groups=16),
        torch.nn.Conv2d(16, 32, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 10),
    ).eval()
    picture = torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(picture)
    out = io.BytesIO()
    torch.onnx.export(net, (picture,), out, dynamo=False, opset_version=17)
    found = count(onnx.load_from_string(out.getvalue()), {})
    assert found.flops["convolution"] + found.flops["matmul"] == counter.get_total_flops()


@pytest.mark.parametrize(
    ("policy", "rows", "frame", "tokens"),
    [
        # SmolVLM-256M's card: 64 tokens for each square of 512 pixels; 2048 wide makes 4x3 and one.
        (Idefics3Tiles(longest=2048, tile=512), 64, (1280, 720), 64 * 13),
        (Idefics3Tiles(longest=512, tile=512), 64, (1280, 720), 64),
        (Fit(height=384, width=384, fit="stretch"), 729, (1280, 720), 729),
        # Qwen3-VL: a token for each 32x32 pixels; 512x512 is 256 of them.
        (
            SmartResize(
                patch=16, merge=2, least_pixels=65536, most_pixels=1 << 24, head_dim=64,
                table_side=48,
            ),
            0, (512, 512), 256,
        ),
    ],
)  # fmt: skip
def test_a_frame_becomes_the_published_number_of_tokens(
    policy: object, rows: int, frame: tuple[int, int], tokens: int
):
    setting = PictureSetting(
        image=ImageSpec.model_validate({"policy": policy}), rows_per_tile=rows, vision=NOTHING
    )
    assert frame_cost(setting, *frame).visual_tokens == tokens


def test_patches_are_counted_before_they_are_merged():
    policy = SmartResize(patch=14, merge=2, least_pixels=3136, most_pixels=1 << 20, head_dim=80)
    found = frame_cost(PictureSetting(image=ImageSpec(policy=policy), vision=NOTHING), 448, 448)
    assert (found.count, found.visual_tokens, found.calls) == (32 * 32, 16 * 16, 1)


def test_a_frame_that_the_policy_refuses_is_a_config_error():
    policy = SmartResize(patch=14, merge=2, least_pixels=3136, most_pixels=1 << 20, head_dim=80)
    setting = PictureSetting(image=ImageSpec(policy=policy), vision=NOTHING)
    with pytest.raises(ConfigError, match="--frame 16000x10"):
        frame_cost(setting, 16000, 10)


def test_holes_read_as_the_zeros_that_they_stand_for(tmp_path: Path):
    """A data file with zeros in the middle and at the end is as long as its parts, and the same."""
    from edgevlm.export.graph import DataFile

    with DataFile(tmp_path / "d") as data:
        first = data.write(np.ones(5000, np.float32))
        hole = data.write(np.zeros(5000, np.float32))
    whole = (tmp_path / "d").read_bytes()
    assert len(whole) == hole.offset + hole.nbytes
    assert np.frombuffer(whole, np.float32, 5000, first.offset).all()
    assert not np.frombuffer(whole, np.float32, 5000, hole.offset).any()
