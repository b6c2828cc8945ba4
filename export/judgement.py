"""Whether what was made may be written: the gates of its certificate."""

from __future__ import annotations

from edgevlm.errors import ParityError
from edgevlm.parity import Certificate


def judge(
    certificate: Certificate, what: str, *, allow_drift: bool, advice: str, repair: str = ""
) -> None:
    """Let pass what keeps every gate, or what the user takes below one.

    Args:
        certificate: of what was made.
        what: is written, or not, in the words of an error.
        allow_drift: the user accepts missed gates. Values that are not finite nobody can want.
        advice: how the gates might be kept.
        repair: what was tried to keep them.

    Raises:
        ParityError: missed gates that nobody allowed, or values not finite.
    """
    misses = certificate.misses
    if not misses or (allow_drift and certificate.finite):
        return
    if certificate.finite:
        advice += ", or accept it with --allow-drift"
    else:
        repair = "; ".join(filter(None, ["some values are not finite", repair]))
    raise ParityError(
        f"{what} not written: parity gates missed ({', '.join(misses)}); "
        f"{'; '.join([*_figures(certificate), *filter(None, [repair])])}; {advice}"
    )


def _figures(certificate: Certificate) -> list[str]:
    parts = []
    for backend in certificate.backends:
        for stage in backend.stages:
            if not stage.passed:
                parts.append(f"{stage.stage} cosine {stage.cosine} under {stage.gate_cosine}")
        if backend.logits is not None:
            parts.append(
                f"logits max error {backend.logits.max_abs}, KL {backend.logits.kl_nats} nats"
            )
    return parts
