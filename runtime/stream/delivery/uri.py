"""The URI of a receiver: where it is, and how it is reached, with secrets by reference only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from edgevlm.errors import ConfigError
from edgevlm.runtime.stream.sources.uri import redact


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver.

    Args:
        name: the URI as it may be printed.
        parts: the URI's parts, without the options.
        options: what stood behind ``#``.
    """

    name: str
    parts: SplitResult
    options: Mapping[str, str]

    @classmethod
    def parse(cls, uri: str, known: Sequence[str]) -> Receiver:
        """Read ``scheme://host/path#option=value&option=value``.

        Raises:
            ConfigError: no host, a password in the URI, or an unknown option.
        """
        shown = redact(uri.partition("#")[0])
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"{shown}: {exc}") from exc
        if not parts.hostname or port == 0:
            raise ConfigError(f"{shown} names no host")
        if parts.password is not None:
            raise ConfigError(
                f"{shown}: a password does not belong into a URI: name the environment variable "
                "that holds it, as in #password_env=NAME"
            )
        options = dict(parse_qsl(parts.fragment, keep_blank_values=True))
        if odd := sorted(options.keys() - set(known)):
            raise ConfigError(f"{shown}: unknown option {odd[0]!r}; known are {', '.join(known)}")
        return cls(shown, parts._replace(fragment=""), options)

    def secret(self, option: str) -> str | None:
        """The value of the environment variable that ``option`` names; None without the option.

        Raises:
            ConfigError: there is no such variable.
        """
        variable = self.options.get(option)
        if variable is None:
            return None
        if variable not in os.environ:
            raise ConfigError(f"{self.name}: the environment has no {variable} ({option})")
        return os.environ[variable]

    def seconds(self, option: str, default: float) -> float:
        """A time in seconds, over 0 and up to 60.

        Raises:
            ConfigError: something else.
        """
        try:
            value = float(self.options.get(option, default))
        except ValueError:
            value = 0.0
        if not 0 < value <= 60:
            raise ConfigError(
                f"{self.name}: {option}={self.options[option]!r} is no time from 0 to 60 seconds"
            )
        return value

    @property
    def outbox(self) -> Path | None:
        """Where events wait, where the user says so."""
        return Path(self.options["outbox"]) if self.options.get("outbox") else None
