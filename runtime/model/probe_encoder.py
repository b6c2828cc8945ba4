"""The parity probe of bundles without a language model: pictures and texts, and their embeddings.

The runtime makes the inputs, the source model computes from them what it would give, and the
certificate compares. Stages are named ``<graph>.<output>``, of a head without ``heads/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.probe_case import ProbeCase, sample_rows
from edgevlm.errors import BundleCorrupt, ContextOverflow
from edgevlm.parity import BackendParity, PictureParity, StageParity, judge_stage
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.perception import Perception
from edgevlm.runtime.model.probe_masks import mask_outputs, write_mask_inputs

TEXTS = (
    "a photo of a boat in a harbour",
    "Two people, seen from behind.",
    "red",
    "an orange disc before a wall that turns from dark to light, with grain",
)


def write_encoder_inputs(
    bundle: Bundle, backend: Backend, pictures: Iterable[tuple[str, Any]]
) -> None:
    """Write one case for every picture, the built-in one with texts.

    Args:
        bundle: a staged bundle; the cases are made under its ``probe/``.
        backend: runs its graphs.
        pictures: names of cases, and what ``load_image`` takes.

    Raises:
        ImageError: a picture that cannot be taken.
        ContextOverflow: the probe's texts do not fit the text encoder.
    """
    perception = Perception(bundle, backend)
    try:
        for n, (name, source) in enumerate(pictures):
            case = ProbeCase(bundle.root / "probe" / name)
            picture = load_image(source)
            case.save("picture.0", picture)
            encoded = perception.encode(picture)
            for m, tile in enumerate(encoded.pixels):
                case.save(f"pixels.0.{m}", tile)
            if bundle.manifest.masks is not None:
                write_mask_inputs(case, encoded, bundle.manifest.image)
            texts = _fitting(perception) if n == 0 and bundle.manifest.text is not None else []
            case.save_texts(texts)
            if texts:
                for key, value in perception.text_inputs(texts).items():
                    case.save(f"text.{key}", value)
    finally:
        perception.close()


def _fitting(perception: Perception) -> list[str]:
    """The texts that the text encoder has room for; if there is none, the shortest tells why."""

    def fits(text: str) -> bool:
        try:
            perception.text_inputs([text])
        except ContextOverflow:
            return False
        return True

    return [text for text in TEXTS if fits(text)] or [min(TEXTS, key=len)]


def certify_encoders(bundle: Bundle, backend: Backend, found: list[ProbeCase]) -> BackendParity:
    """Measure every case; those named ``check-...`` are the user's own pictures.

    Raises:
        BundleCorrupt: the probe is missing or damaged, or its texts give other tokens now.
        BackendError: a graph does not run.
    """
    if not found:
        raise BundleCorrupt(f"{bundle.root}: there is no probe to compare with")
    perception = Perception(bundle, backend)
    try:
        measured = {case.folder.name: _measure(bundle, perception, case) for case in found}
    finally:
        perception.close()
    own = next(stages for name, stages in measured.items() if not name.startswith("check-"))
    return BackendParity(
        backend=backend.name,
        status="measured",
        stages=own,
        pictures=tuple(
            PictureParity(picture=name.removeprefix("check-"), stages=stages)
            for name, stages in measured.items()
            if name.startswith("check-")
        ),
    )


def _measure(bundle: Bundle, perception: Perception, case: ProbeCase) -> tuple[StageParity, ...]:
    """Every stage that the source model has left its values of."""
    (picture,) = case.pictures
    encoded = perception.encode(picture)
    found = {f"vision.{name}": value for name, value in encoded.outputs.items()}
    if bundle.manifest.masks is not None:
        found |= mask_outputs(perception, case, encoded)
    if texts := case.texts:
        for key, value in perception.text_inputs(texts).items():
            if not np.array_equal(value, case.load(f"text.{key}")):
                raise BundleCorrupt(f"{case.folder}: the texts have other {key} than those stored")
        found["text.text_embeds"] = perception.encode_text(texts)
    stages = []
    for stage in (name.removeprefix("stage.") for name in case.names("stage.")):
        if stage not in found:
            raise BundleCorrupt(f"{case.folder}: the bundle gives no {stage}")
        rows = sample_rows(found[stage])
        graph, _, _ = stage.partition(".")
        graphs = bundle.manifest.graphs
        precision = graphs[graph if graph in graphs else f"heads/{graph}"].precision
        stages.append(judge_stage(stage, precision, case.load(f"stage.{stage}"), rows))
    if not stages:
        raise BundleCorrupt(f"{case.folder}: there is nothing to compare with")
    return tuple(stages)
