"""Every lowering gives what ``ort-gqa`` gives: ONNX Runtime runs all of them on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT, StaticLowering
from edgevlm.export.targets.relower import TargetGraph, TargetPrecision, relower
from edgevlm.runtime.model.decoder import Decoder, open_decoder
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.rows import Rows
from edgevlm.tensors import Float32
from tests.export.targets.specs import CAPACITY, FEATURES, bundle_of, spec_of

LOWERINGS: tuple[StaticLowering, ...] = (ONNX_STD, TRT10_COMPAT)
PROMPT = 9


@dataclass(frozen=True)
class Pair:
    """The same weights, lowered twice."""

    bundle: Bundle
    target: TargetGraph
    theirs: Decoder
    ours: Decoder


def opened(bundle: Bundle, path: Path) -> Decoder:
    return open_decoder(bundle.manifest, open_backend("ort-cpu", threads=1).load(path))


def pair(bundle: Bundle, lowering: StaticLowering, precision: TargetPrecision | None) -> Pair:
    into = bundle.root / f"{lowering}-{precision}"
    into.mkdir()
    target = relower(bundle, lowering, precision, into)["decoder"]
    return Pair(
        bundle, target, opened(bundle, bundle.path("decoder.onnx")), opened(bundle, target.path)
    )


@pytest.fixture(params=[(f, n) for f in FEATURES for n in LOWERINGS], ids=lambda p: " ".join(p))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    feature, lowering = request.param
    return pair(bundle_of(spec_of(feature), tmp_path / "bundle"), lowering, "fp32")


def rows_of(spec: DecoderSpec, count: int, seed: int = 0) -> Rows:
    """Random rows; of a model with rows and columns, the first ones are a picture of two rows."""
    random = np.random.default_rng(seed)
    positions = deepstack = None
    if spec.mrope_section is not None and seed == 0:
        positions = np.tile(np.arange(count), (3, 1))
        positions[:, :6] = [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    if spec.deepstack_levels and seed == 0:
        shape = (spec.deepstack_levels, count, spec.hidden_size)
        deepstack = random.normal(0, 1, shape).astype(np.float32)
    embeds = random.normal(0, 1, (count, spec.hidden_size)).astype(np.float32)
    return Rows(embeds, deepstack, positions)


def close(found: Float32, expected: Float32, limit: float = 2e-4) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def test_prefill_and_decode_at_every_cache_fill(both: Pair):
    spec = both.bundle.manifest.decoder
    rows = rows_of(spec, PROMPT)
    close(both.ours.append(rows, logits=PROMPT), both.theirs.append(rows, logits=PROMPT))
    following = rows_of(spec, CAPACITY - PROMPT, seed=1)
    for n in range(len(following)):
        row = following.part(n, n + 1)
        close(both.ours.append(row), both.theirs.append(row))
    assert both.ours.room(0) == 0


def test_rows_in_pieces_and_back_to_a_prefix(both: Pair):
    """Going back: to a mark in decoders with convolutions, anywhere in the others."""
    spec = both.bundle.manifest.decoder
    first, ours, theirs = rows_of(spec, PROMPT), both.ours, both.theirs
    for decoder in (ours, theirs):
        decoder.append(first)
        decoder.mark()
    rejected, kept = rows_of(spec, 6, seed=2), rows_of(spec, 20, seed=3)
    ours.append(rejected, logits=6)
    ours.rewind(PROMPT)
    if spec.prefix_attention:  # their operator takes one row a call behind a prompt
        expected = np.concatenate([theirs.append(kept.part(n, n + 1)).copy() for n in range(20)])
    else:
        expected = theirs.append(kept, logits=20)
    close(ours.append(kept.part(0, 1)), expected[:1])
    close(ours.append(kept.part(1, 8), logits=7), expected[1:8])
    close(ours.append(kept.part(8, 20), logits=3), expected[17:])
    assert ours.length == PROMPT + 20
