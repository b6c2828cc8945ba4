"""How far two results are apart, and the certificate made of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from edgevlm.errors import BundleCorrupt
from edgevlm.tensors import Array, Float32

GATE_COSINE = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.99, "int4": 0.99}
GATE_LOGITS_FP32 = 1e-3
GATE_KL_NATS = {"fp32": 1e-6, "fp16": 1e-2, "int8": 0.05, "int4": 0.15}
DECISIVE = 10.0  # a greedy step gates only if its reference gap is this many logit errors wide


def cosine(a: Array, b: Array) -> float:
    """Cosine similarity of two arrays, flattened, in [-1, 1]; 1 if both are zero."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norms == 0.0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float(x @ y) / norms


def max_abs(a: Array, b: Array) -> float:
    """Largest absolute difference."""
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def kl_nats(reference: Float32, other: Float32) -> float:
    """Mean Kullback-Leibler divergence over rows of logits ``(rows, vocab)``, in nats."""

    def log_softmax(x: Float32) -> Array:
        shifted = x.astype(np.float64) - x.max(-1, keepdims=True)
        normed: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return normed

    with np.errstate(invalid="ignore"):  # of logits that are no numbers
        p, q = log_softmax(reference), log_softmax(other)
        return float((np.exp(p) * (p - q)).sum(-1).mean())


class _Record(BaseModel):
    # A graph that gives NaN misses its gate; the certificate that says so stays valid JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class StageParity(_Record):
    """One intermediate result against the reference; without a gate it is only reported."""

    stage: str
    precision: str
    cosine: float
    max_abs: float
    gate_cosine: float | None
    passed: bool


class LogitParity(_Record):
    """Logits on the probe prompt, at the reference's own greedy tokens."""

    positions: int
    max_abs: float
    kl_nats: float
    gate: str
    passed: bool


class GreedyParity(_Record):
    """Would the bundle have chosen the reference's next token, step by step.

    ``decisive_misses`` counts misses at steps whose reference gap (best logit less second best)
    is over ten times the logit error: only these gate.
    """

    steps: int
    agreed: int
    decisive_misses: int
    passed: bool


class PictureParity(_Record):
    """One picture of the user's own, named by its file."""

    picture: str
    stages: tuple[StageParity, ...] = ()
    logits: LogitParity | None = None
    greedy: GreedyParity | None = None

    @property
    def misses(self) -> tuple[str, ...]:
        """The gates that are missed, named."""
        return _misses(self.stages, self.logits, self.greedy)


class BatchShape(_Record):
    """The largest difference of a logit between steps of one token and passes of ``rows`` tokens.

    Over the same ``positions``; ``machine`` is where that was measured.
    """

    positions: int
    rows: tuple[int, ...]
    deviation: float
    machine: str


class BackendParity(_Record):
    """The certificate of one backend.

    ``emulated``: fp16 weights computed in float32, because the backend lacks fp16 kernels.
    ``compiled``: an engine that was built and not run. ``absent``: not on this machine, or
    without engines. ``refused``: here, and it takes other graphs or engines than these. ``not
    compared``: the graphs run, and there was no source model to hold them against.
    """

    backend: str
    status: Literal[
        "measured", "emulated", "compiled, not run", "absent", "refused", "not compared"
    ]
    stages: tuple[StageParity, ...] = ()
    logits: LogitParity | None = None
    greedy: GreedyParity | None = None
    pictures: tuple[PictureParity, ...] = ()
    batch_shape: BatchShape | None = None

    @property
    def passed(self) -> bool:
        """True unless a gate is missed."""
        return not self.misses

    @property
    def misses(self) -> tuple[str, ...]:
        """The gates that are missed, named."""
        own = _misses(self.stages, self.logits, self.greedy)
        return own + tuple(f"{p.picture}: {name}" for p in self.pictures for name in p.misses)


def _misses(
    stages: tuple[StageParity, ...], logits: LogitParity | None, greedy: GreedyParity | None
) -> tuple[str, ...]:
    named: list[tuple[str, StageParity | LogitParity | GreedyParity | None]] = [
        *((stage.stage, stage) for stage in stages),
        ("logits", logits),
        ("greedy", greedy),
    ]
    return tuple(name for name, found in named if found is not None and not found.passed)


class Certificate(_Record):
    """``parity.json``: the bundle against the model it came from.

    ``reference`` says what computed the reference values.
    """

    reference: str
    precision: str
    backends: tuple[BackendParity, ...]

    @property
    def passed(self) -> bool:
        """True if every backend that was measured keeps every gate."""
        return all(b.passed for b in self.backends)

    @property
    def misses(self) -> tuple[str, ...]:
        """The gates that are missed: ``backend: stage``."""
        return tuple(f"{b.backend}: {name}" for b in self.backends for name in b.misses)

    @property
    def finite(self) -> bool:
        """False if a backend gave values that are no numbers: nobody can want that."""
        judged: list[BackendParity | PictureParity] = []
        for backend in self.backends:
            judged += [backend, *backend.pictures]
        errors = [stage.max_abs for one in judged for stage in one.stages]
        errors += [one.logits.max_abs for one in judged if one.logits is not None]
        return bool(np.isfinite(errors).all())

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why the bundle's answers cannot be trusted as its source model's; empty if they can."""
        blind = tuple(
            f"{b.backend}: not compared with its source model"
            for b in self.backends
            if b.status == "not compared"
        )
        return self.misses + blind

    def with_engines(self, engines: Iterable[BackendParity]) -> Certificate:
        """The same, naming the backends whose engines are there and did not run here."""
        found = {e.backend: e for e in engines}
        own = {b.backend: b for b in self.backends}
        ran = {n: b for n, b in own.items() if b.status != "absent"}
        return self.model_copy(update={"backends": tuple((own | found | ran).values())})

    @classmethod
    def parse(cls, text: str, name: str) -> Certificate:
        """Read a ``parity.json``.

        Raises:
            BundleCorrupt: it is not one; ``name`` says where it came from.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            first = exc.errors()[0]
            raise BundleCorrupt(f"{name}: parity.json is damaged: {first['msg']}") from exc


def judge_stage(
    stage: str, precision: str, reference: Array, found: Array, *, gated: bool = True
) -> StageParity:
    """Compare one intermediate result and hold it against the gate of its precision."""
    gate, value = GATE_COSINE[precision] if gated else None, cosine(reference, found)
    return StageParity(
        stage=stage,
        precision=precision,
        cosine=round(value, 9),
        max_abs=float(f"{max_abs(reference, found):.4g}"),
        gate_cosine=gate,
        passed=gate is None or value >= gate,
    )


def judge_logits(precision: str, reference: Float32, found: Float32) -> LogitParity:
    """Compare logits ``(positions, vocab)``: max error gates fp32, KL divergence the others."""
    error, divergence = max_abs(reference, found), kl_nats(reference, found)
    if precision == "fp32":
        gate, passed = f"max_abs <= {GATE_LOGITS_FP32}", error <= GATE_LOGITS_FP32
    else:
        limit = GATE_KL_NATS[precision]
        gate, passed = f"kl <= {limit} nats", divergence <= limit
    return LogitParity(
        positions=len(reference),
        max_abs=float(f"{error:.4g}"),
        kl_nats=float(f"{divergence:.4g}"),
        gate=gate,
        passed=passed,
    )


def judge_greedy(tokens: Array, gaps: Float32, found: Float32, logit_error: float) -> GreedyParity:
    """Compare the best token of every row of ``found`` with the reference's choice.

    Args:
        tokens: the reference's greedy tokens ``(steps,)``.
        gaps: the reference's best logit less its second best ``(steps,)``.
        found: logits ``(steps, vocab)`` with the reference's tokens as context.
        logit_error: largest logit error seen.
    """
    missed = found.argmax(-1) != tokens
    decisive = int((missed & (gaps > DECISIVE * logit_error)).sum())
    return GreedyParity(
        steps=len(tokens),
        agreed=int((~missed).sum()),
        decisive_misses=decisive,
        passed=decisive == 0,
    )
