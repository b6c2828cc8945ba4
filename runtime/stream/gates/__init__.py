"""Gates decide whether a frame gets an answer of its own."""

from __future__ import annotations

from collections.abc import Sequence

from edgevlm.bundle import Manifest
from edgevlm.config import RunConfig
from edgevlm.gates import (
    FeatureSection,
    GateSection,
    MotionSection,
    PixelSection,
    SceneSection,
    SilenceSection,
)
from edgevlm.runtime.stream.gates.base import Gate
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.feature import FeatureGate
from edgevlm.runtime.stream.gates.motion import MotionGate
from edgevlm.runtime.stream.gates.pixel import PixelGate
from edgevlm.runtime.stream.gates.prompt import PromptGate
from edgevlm.runtime.stream.gates.scene import SceneGate
from edgevlm.runtime.stream.gates.silence import SilenceGate


def chain_of(config: RunConfig, answers: Manifest, live: bool) -> Chain:
    """The gates of a stream; arguments of the stream, errors as in ``open_chain``."""
    engine = config.engine
    spin = not live if engine.spin is None else engine.spin
    sections = config.gates if config.policy.gate else ()
    return open_chain(sections, Encoders(answers, engine, spin))


def open_chain(sections: Sequence[GateSection], encoders: Encoders) -> Chain:
    """The gates of one stream, in their order.

    Args:
        sections: settings.
        encoders: what gates look through; closed with the chain, or now if a gate is refused.

    Raises:
        BundleError: a gate's bundle cannot be used.
        BackendError: or its backend.
        ContractError: the bundle cannot do what the gate needs.
        ConfigError: settings that do not fit the bundle.
    """
    try:
        return Chain([(section, _made(section, encoders)) for section in sections], encoders)
    except BaseException:
        encoders.close()
        raise


def _made(section: GateSection, encoders: Encoders) -> Gate:
    if isinstance(section, PixelSection):
        return PixelGate(section)
    if isinstance(section, MotionSection):
        return MotionGate(section)
    if isinstance(section, SilenceSection):
        return SilenceGate(section)
    if isinstance(section, FeatureSection):
        return FeatureGate(section, encoders.features(section.bundle, section.backend))
    if isinstance(section, SceneSection):
        looks = section.on == "features"
        return SceneGate(
            section, encoders.features(section.bundle, section.backend) if looks else None
        )
    return PromptGate(section, encoders.load(section.bundle, section.backend))
