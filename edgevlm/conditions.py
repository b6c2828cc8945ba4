"""A field against a value, as in ``answer.person = true``: what rules and queries are made of."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.errors import ConfigError

Scalar = str | int | float | bool | None
_FORM = re.compile(r"\s*([A-Za-z_]\w*(?:\.\w+)*)\s*(==|=|!=|<=|>=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A field of an event's JSON against a value.

    Args:
        path: dotted path into the event, as in ``answer.person``.
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, or ``~`` for "contains".
        value: a JSON scalar.
    """

    path: str
    operator: str
    value: Scalar

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``field OP value``; a value is JSON where it parses as a scalar, text otherwise.

        Raises:
            ConfigError: anything else.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"the condition {text!r} is not FIELD OP VALUE, as in 'answer.person = true'; "
                "OP is one of = != < <= > >= ~"
            )
        path, operation, raw = match.groups()
        try:
            value = json.loads(raw)
        except ValueError:
            value = raw
        if isinstance(value, dict | list):
            raise ConfigError(
                f"the condition {text!r}: a value is a number, a text, true, false or null"
            )
        return cls(path, "=" if operation == "==" else operation, value)

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        return f"{self.path} {self.operator} {value}"

    def holds(self, body: Mapping[str, Any]) -> bool | None:
        """Whether it holds for an event; None where the field is absent or of another type.

        A field that is null is absent for every comparison but that with null itself.
        """
        found: Any = body
        for part in self.path.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return None
            found = found[part]
        if self.operator == "~":
            if not isinstance(found, str):
                return None
            return str(self.value).lower() in found.lower()
        if self.value is None:
            return (found is None) == (self.operator == "=")
        if found is None or isinstance(found, str) != isinstance(self.value, str):
            return None
        if not isinstance(found, str | int | float):
            return None
        return _COMPARE[self.operator](found, self.value)
