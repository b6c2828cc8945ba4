"""A stream's task: what goes together, and what is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from edgevlm.config import RunConfig, make_config
from edgevlm.errors import ConfigError

BASE: dict[str, Any] = {"bundle": "b", "source": {"uri": "clip.mp4"}}
LOCATE = {"kind": "locate", "banks": ["mug.npz"]}


def made(task: dict[str, Any], **more: Any) -> RunConfig:
    """Settings with a task."""
    return make_config({**BASE, "task": task, **more})


def test_a_task_stands_in_the_place_of_a_question_and_is_read_again():
    config = made({"kind": "classify", "labels": ["a", "b"], "none": True})
    assert [question.text for question in config.ask] == ["classify"]
    again = config.model_dump(exclude_unset=True, by_alias=True, mode="json")
    assert make_config(again) == config
    assert made(LOCATE, name="door").task == made(LOCATE).task


def test_known_things_go_with_questions_in_this_process():
    asked = {**BASE, "ask": "Where is my mug?", "known": ["things/"]}
    assert make_config(asked).known == ("things/",)
    with pytest.raises(ConfigError, match="window does not go with known"):
        make_config({**asked, "window": {"seconds": 8}})


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ({"kind": "classify"}, {}, "classify takes labels"),
        ({"kind": "classify", "labels": ["a"], "banks": ["b"]}, {}, "classify takes no bank"),
        ({"kind": "locate"}, {}, "locate takes a bank"),
        ({"kind": "anomaly", "banks": ["a", "b"]}, {}, "anomaly takes one bank"),
        ({**LOCATE, "labels": ["a"]}, {}, "locate takes banks, and no labels"),
        ({**LOCATE, "none": True}, {}, "none is of classify, not of locate"),
        ({**LOCATE, "template": "{}"}, {}, "template is of classify and segment"),
        ({"kind": "anomaly", "banks": ["a"], "small": True}, {}, "small is of locate"),
        ({"kind": "count"}, {}, "task.kind"),
        (LOCATE, {"ask": "What is it?"}, "asks a question or has a task, not both"),
        (LOCATE, {"window": {"seconds": 8}}, "window does not go with the task locate"),
        (LOCATE, {"record": "there"}, "record does not go with"),
        (
            LOCATE,
            {"generation": {"schema": {"type": "object"}}},
            "generation.schema does not go with",
        ),
        (LOCATE, {"engine": {"isolate": True}}, "engine.isolate does not go with"),
        (LOCATE, {"known": ["things"]}, "known does not go with the task locate"),
        ({**LOCATE, "bank": "x"}, {}, "did you mean 'banks'"),
    ],
)
def test_what_does_not_go_together(task: dict[str, Any], more: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        made(task, **more)
