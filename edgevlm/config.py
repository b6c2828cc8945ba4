"""A stream's settings: one TOML file, or the flags of ``edgevlm run``."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgevlm.errors import ConfigError
from edgevlm.gates import DEFAULT, GateList
from edgevlm.known_keys import known_keys
from edgevlm.rules import RuleSection
from edgevlm.tasks import TaskSection

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*([sm]?)")  # 8, 8s, 1.5m


class Section(BaseModel):
    """A table of settings: every key is known, nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceSection(Section):
    """Where frames come from."""

    uri: str
    realtime: bool = Field(default=False, description="play a file at its own pace")
    reconnect: bool = Field(default=True, description="connect a live source again, for ever")
    timeout_s: float = Field(default=10.0, gt=0, description="silence that counts as a stall")


class PolicySection(Section):
    """Which frames are answered.

    ``freshest`` keeps the newest frame and counts the others; ``every`` loses nothing: a file is
    read as fast as it is answered, a live source goes through a spool of ``spool_mb`` on disk (in
    the cache folder, or ``spool_dir``) and is held back while that is full. None: live sources are
    ``freshest``, files ``every``. ``max_age_s`` is hard: no older answer is given out. ``gate``
    False turns all ``gates`` off.
    """

    mode: Literal["freshest", "every"] | None = None
    max_age_s: float | None = Field(default=None, gt=0)
    rate_hz: float | None = Field(default=None, gt=0)
    reuse_every_s: float = Field(default=1.0, ge=0)
    gate: bool = True
    spool_mb: int = Field(default=1024, ge=1)
    spool_dir: str | None = None


class GenerationSection(Section):
    """How an answer is decoded.

    ``schema`` is the path of a JSON Schema file, or the schema itself as a table. ``draft`` has
    tokens of the last answers confirmed several at once; it changes no answer.
    """

    max_tokens: int = Field(default=32, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0)
    system: str | None = None
    schema_: str | dict[str, Any] | None = Field(default=None, alias="schema")
    draft: bool = True


class QuestionSection(Section):
    """One question about every frame; a text in its place is a question without a ``schema``.

    ``schema`` is as in ``generation``, whose holds for questions without their own.
    """

    text: str = Field(min_length=1)
    schema_: str | dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class WindowSection(Section):
    """The model sees frames of the last seconds, with their times, beside the newest one.

    ``tokens`` is the budget of visual tokens for all of them together: the newest frame gets what
    it takes alone, older ones share the rest. None: twice what one frame takes. ``memory`` is
    ``frames``, of which every question gets a choice, or ``cache``: every frame goes through the
    decoder once and stays in its KV cache until it is too old or over ``tokens``, captions
    included (None: half of the cache).
    """

    seconds: float = Field(gt=0)
    tokens: int | None = Field(default=None, ge=1)
    frames: int = Field(default=5, ge=1, description="at most, the newest one included")
    memory: Literal["frames", "cache"] = "frames"

    @field_validator("seconds", mode="before")
    @classmethod
    def _with_unit(cls, value: Any) -> Any:
        written = _SECONDS.fullmatch(value.strip()) if isinstance(value, str) else None
        return value if written is None else float(written[1]) * (60 if written[2] == "m" else 1)


class LimitsSection(Section):
    """When the run ends by itself, and what the process of an isolated model may take.

    ``start_s``: until it has loaded the model. ``step_s``: between two signs of life, which are
    tokens and chunks of the prompt, so it must be more than a picture's encoding takes.
    ``answer_s``: for one answer. ``memory_mb``: of heap (``RLIMIT_DATA``), weights that are mapped
    from files apart.
    """

    frames: int | None = Field(default=None, ge=1)
    duration_s: float | None = Field(default=None, gt=0)
    start_s: float = Field(default=120.0, gt=0)
    step_s: float = Field(default=30.0, gt=0)
    answer_s: float = Field(default=300.0, gt=0)
    memory_mb: int | None = Field(default=None, ge=1)


class EngineSection(Section):
    """What runs the graphs.

    ``spin`` None: workers spin unless the source is live. ``verify``: which files of the bundle
    are hashed before it is used, ``once`` those that were not hashed before. ``cpu_fallback``: the
    CPU computes what a GPU provider of ONNX Runtime has no kernels for. ``trust_engines``: load
    engines that this device did not make. ``fallback``: answers until ``backend`` can. ``isolate``:
    in a process of its own, which is replaced when it hangs, crashes or takes too much.
    ``visual_tokens``: that a picture becomes in the prompt, where the bundle has several budgets;
    None is its default.
    """

    backend: str = "ort-cpu"
    threads: int = Field(default=0, ge=0)
    spin: bool | None = None
    verify: Literal["always", "once", "size"] = "once"
    cpu_fallback: bool = False
    trust_engines: bool = False
    fallback: Literal["ort-cpu", "ort-cuda"] | None = None
    isolate: bool = False
    visual_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _another(self) -> EngineSection:
        if self.fallback == self.backend:
            raise ValueError(f"fallback is the backend itself, {self.backend}")
        return self


def of_isolation(limits: LimitsSection, engine: EngineSection) -> None:
    """Limits of a model's process need one.

    Raises:
        ValueError: one is given, and there is none.
    """
    given = limits.model_fields_set & {"start_s", "step_s", "answer_s", "memory_mb"}
    if given and not engine.isolate:
        raise ValueError(
            f"limits.{min(given)} is of an isolated model: set engine.isolate (--isolate) too"
        )


T = TypeVar("T", bound=Section)


class StreamSection(Section):
    """What is one stream's own: where its frames come from, what it asks, where answers go.

    ``ask`` is a question, or a list of them: they share one pass of the encoder and the prefill of
    the picture, and each has its own answers, drafts and events.
    """

    name: str = Field(default="main", min_length=1)
    ask: tuple[QuestionSection, ...] = Field(min_length=1)
    source: SourceSection
    policy: PolicySection = PolicySection()
    generation: GenerationSection = GenerationSection()
    window: WindowSection | None = None
    sinks: tuple[str, ...] = Field(default=(), description="URIs of where events go besides stdout")
    record: str | None = Field(default=None, description="folder for frames and decisions")
    rules: tuple[RuleSection, ...] = ()
    gates: GateList = Field(default=DEFAULT, description="asked in this order")

    @field_validator("ask", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("rules")
    @classmethod
    def _told_apart(cls, rules: tuple[RuleSection, ...]) -> tuple[RuleSection, ...]:
        if twice := _twice([rule.name for rule in rules]):
            raise ValueError(f"two rules are called {twice!r}")
        return rules

    @model_validator(mode="after")
    def _each_asked_once(self) -> StreamSection:
        texts = [question.text for question in self.ask]
        if twice := _twice(texts):
            raise ValueError(f"{twice!r} is asked twice")
        if self.window is not None and len(texts) > 1:
            raise ValueError("a window is for one question: which frames it shows depends on it")
        for rule in self.rules:
            if rule.question not in (None, *texts):
                raise ValueError(
                    f"rule {rule.name!r} is about {rule.question!r}, which is not asked"
                )
        return self

    def schema_of(self, question: QuestionSection) -> str | dict[str, Any] | None:
        """The schema that answers to a question follow."""
        return self.generation.schema_ if question.schema_ is None else question.schema_


def _twice(names: Sequence[str]) -> str | None:
    return min((name for name in names if names.count(name) > 1), default=None)


class RunConfig(StreamSection):
    """All settings of one stream, and of the model that it has to itself."""

    bundle: str
    limits: LimitsSection = LimitsSection()
    engine: EngineSection = EngineSection()
    task: TaskSection | None = Field(default=None, description="in the place of a question")
    known: tuple[str, ...] = Field(
        default=(), description="banks of things that questions are told of, or folders of them"
    )

    @model_validator(mode="before")
    @classmethod
    def _task_or_question(cls, value: Any) -> Any:
        """A task stands where a question would; its events name it as their question."""
        if not isinstance(value, Mapping) or not isinstance(value.get("task"), Mapping):
            return value
        kind = str(value["task"].get("kind", "task"))
        asked = value.get("ask", kind)
        if asked not in (kind, [kind], (kind,), ({"text": kind},), [{"text": kind}]):
            raise ValueError("a stream asks a question or has a task, not both")
        return {**value, "ask": (kind,)}

    @model_validator(mode="after")
    def _looks_at_pixels(self) -> RunConfig:
        """Tasks and known things want the frame itself, and the model in this process."""
        if self.task is None and not self.known:
            return self
        looks = "known" if self.task is None else f"the task {self.task.kind}"
        for name, given in (
            ("known", self.task is not None and bool(self.known)),
            ("window", self.window is not None),
            ("record", self.record is not None),
            ("generation.schema", self.task is not None and self.generation.schema_ is not None),
            ("engine.isolate", self.engine.isolate),
        ):
            if given:
                raise ValueError(f"{name} does not go with {looks}")
        return self

    @model_validator(mode="after")
    def _isolated(self) -> RunConfig:
        of_isolation(self.limits, self.engine)
        if self.engine.isolate and self.window is not None and self.window.memory == "cache":
            raise ValueError("window.memory = cache needs the model in this process, not isolated")
        return self


def load_config(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> RunConfig:
    """Read the TOML file of one stream.

    Args:
        path: the file.
        settings: ``key=value`` overrides with dotted keys, as in ``source.uri=0``; a value is
            TOML where it parses as such, text otherwise.

    Raises:
        ConfigError: missing, not TOML, an unknown key (with the nearest known one) or a bad value.
    """
    return make_config(read_toml(path, settings), str(path))


def read_toml(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> dict[str, Any]:
    """What a TOML file says, with overrides as in ``load_config``.

    In a list of tables, the key of an override is the ``name`` of one of them.

    Raises:
        ConfigError: missing, not TOML, or an override that does not fit.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got {setting!r}")
        _put(raw, key.split("."), value)
    return raw


def make_config(raw: Mapping[str, Any], name: str = "the options") -> RunConfig:
    """Validate settings that are already a mapping.

    Raises:
        ConfigError: as ``load_config``.
    """
    return validated(RunConfig, raw, name)


def validated(kind: type[T], raw: Mapping[str, Any], name: str) -> T:
    """Settings of a kind.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a bad value.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = known_keys(kind, first["loc"])
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{name}: unknown key {place!r}{hint}") from exc
        raise ConfigError(f"{name}: {place}: {first['msg']}") from exc


def _put(raw: dict[str, Any], keys: list[str], value: str) -> None:
    here: Any = raw
    for key in keys[:-1]:
        if isinstance(here, list):
            here = next((t for t in here if isinstance(t, dict) and t.get("name") == key), None)
        else:
            here = here.setdefault(key, {})
        if not isinstance(here, dict | list):
            raise ConfigError(f"--set {'.'.join(keys)}: {key!r} is not a section")
    if not isinstance(here, dict):
        raise ConfigError(f"--set {'.'.join(keys)}: say of which of them, by its name")
    try:
        parsed: Any = tomllib.loads(f"v = {value}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value
    here[keys[-1]] = str(value) if keys[-1] == "uri" else parsed
