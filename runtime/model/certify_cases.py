"""Conversations of the probe, through the same code that answers users."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.probe_case import LOGIT_POSITIONS, ProbeCase, sample_rows
from edgevlm.errors import BackendError, BundleCorrupt
from edgevlm.parity import (
    BackendParity,
    PictureParity,
    StageParity,
    judge_greedy,
    judge_logits,
    judge_stage,
)
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.inference import Inference
from edgevlm.runtime.model.messages import conversation
from edgevlm.runtime.model.turn import Turn
from edgevlm.tensors import Array, Float32

HIDDEN = ("hidden.first", "hidden.last")


def certify_cases(bundle: Bundle, backend: Backend, found: list[ProbeCase]) -> BackendParity:
    """Measure every case; those named ``check-...`` are the user's own pictures.

    Raises:
        BundleCorrupt: the probe is missing or damaged, or the prompt is not the stored one.
        BackendError: a graph does not run.
    """
    if not found:
        raise BundleCorrupt(f"{bundle.root}: there is no probe to compare with")
    inference = Inference(bundle, backend, watch=HIDDEN)
    try:
        if not any(case.answered for case in found):
            for case in found:
                _try(inference, case)
            return BackendParity(backend=backend.name, status="not compared")
        measured = {case.folder.name: _measure(bundle, inference, case) for case in found}
        batch_shape = inference.batch_shape()
    finally:
        inference.close()
    own = next(v for name, v in measured.items() if not name.startswith("check-"))
    return BackendParity(
        backend=backend.name,
        status="measured",
        stages=own.stages,
        logits=own.logits,
        greedy=own.greedy,
        pictures=tuple(v for name, v in measured.items() if name.startswith("check-")),
        batch_shape=batch_shape,
    )


def _measure(bundle: Bundle, inference: Inference, case: ProbeCase) -> PictureParity:
    turn = Turn()
    rows = inference.begin(turn, conversation(case.pictures, case.question, None, None))
    if (ids := inference.prompt_ids(turn)) != case.load("ids").tolist():
        raise BundleCorrupt(
            f"{case.folder}: the prompt has {len(ids)} tokens that are not the stored ones"
        )
    stages = _vision_stages(bundle, turn, case)
    tokens = case.load("tokens")
    found, hidden = inference.follow(turn, rows, tokens)
    if inference.encoded is not None:
        precision, reference = (
            bundle.manifest.graphs["encoder"].precision,
            case.load("stage.encoded"),
        )
        encoded = sample_rows(inference.encoded)
        stages.append(judge_stage("encoder.encoded", precision, reference, encoded))
    precision = bundle.manifest.graphs["decoder"].precision
    for name, value in hidden.items():
        reference = case.load(f"stage.{name}")
        stages.append(judge_stage(name, precision, reference, value, gated=False))
    logits = judge_logits(precision, case.load("logits"), found[:LOGIT_POSITIONS])
    return PictureParity(
        picture=case.folder.name.removeprefix("check-"),
        stages=tuple(stages),
        logits=logits,
        greedy=judge_greedy(tokens, case.load("gaps"), found, logits.max_abs),
    )


def _try(inference: Inference, case: ProbeCase) -> None:
    """Run a case that has no answer to be compared with.

    Raises:
        BackendError: the graphs do not run, or give logits that are not finite.
    """
    turn = Turn()
    rows = inference.begin(turn, conversation(case.pictures, case.question, None, None))
    logits, _ = inference.follow(turn, rows, np.zeros(2, np.int64))
    if not np.isfinite(logits).all():
        raise BackendError(f"{case.folder.name}: the graphs give logits that are not finite")


def _vision_stages(bundle: Bundle, turn: Turn, case: ProbeCase) -> list[StageParity]:
    entry = bundle.manifest.graphs.get("vision")
    if entry is None:
        return []
    stages = []
    for name in (t.name for t in entry.outputs):
        if f"stage.{name}" in case.names("stage."):
            found = _all_rows([picture.outputs[name] for picture in turn.encoded])
            reference = case.load(f"stage.{name}")
            stages.append(
                judge_stage(f"vision.{name}", entry.precision, reference, sample_rows(found))
            )
    return stages


def _all_rows(values: list[Array]) -> Float32:
    width = values[0].shape[-1]
    rows: Float32 = np.concatenate([v.reshape(-1, width) for v in values])
    return rows
