"""``edgevlm plan CONFIG.toml``: do the rates that a box promises fit this machine?"""

from __future__ import annotations

import dataclasses
import json
import sys


def plan_box(path: str, as_json: bool) -> int:
    """Measure and print; 0 if they fit, else 1.

    Raises:
        ConfigError: the file has no ``[[streams]]``, or cannot be used.
        BundleError, BackendError: its bundle cannot.
    """
    from edgevlm.box import BoxConfig, load_settings
    from edgevlm.errors import ConfigError
    from edgevlm.runtime.stream.box import appraise

    config = load_settings(path)
    if not isinstance(config, BoxConfig):
        raise ConfigError(f"{path} has one stream: plan its bundle, {config.bundle}")
    admission = appraise(config)
    if as_json:
        body = {**dataclasses.asdict(admission), "fits": not admission.refused}
        sys.stdout.write(json.dumps(body, indent=1) + "\n")
    else:
        fit = len(admission.places) - len(admission.refused)
        for place in admission.places:
            sys.stdout.write(f"{place}\n")
        sys.stdout.write(
            f"{fit} of {len(admission.places)} streams fit: {admission.room:.0%} of the model can "
            f"be promised, the gate takes {admission.gate_ms:.2f} ms a frame\n"
        )
    return 1 if admission.refused else 0
