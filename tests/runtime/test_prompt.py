"""From messages to tokens, against templates rendered by hand and by plain jinja2."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer

from edgevlm.bundle import Bundle
from edgevlm.bundle.prompt import LabelPrompt, PromptSpec
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.model.prompt import PromptBuilder
from edgevlm.runtime.model.prompt_texts import write_labels
from tests.core.tiny import END, START, TEMPLATE, tokenizer

MARK = "<|image|>"
RULE = LabelPrompt(
    file="labels.json", output="p", top=3, min_probability=0.05,
    template="Seen: {labels}. ", item="{name} ({percent}%)",
)  # fmt: skip


def builder(template: str | None = TEMPLATE, **spec: Any) -> PromptBuilder:
    """A builder over the byte tokenizer, where text and tokens are easy to compare."""
    fields = {"stop_token_ids": (END,), "bos_token_id": START, **spec}
    return PromptBuilder(PromptSpec(**fields), template, tokenizer())


def rendered(made: PromptBuilder, messages: Any, labels: Any = ()) -> str:
    """The prompt as text, an image written as its marker."""
    texts = made.build(messages, labels).texts
    return MARK.join(tokenizer().decode(t, skip_special_tokens=False) for t in texts)


def user(*parts: Any) -> dict[str, Any]:
    """One user turn; a str is text, None a picture."""
    content = [{"type": "image"} if p is None else {"type": "text", "text": p} for p in parts]
    return {"role": "user", "content": content}


def test_nanos_prompt_is_its_own_template_with_system_labels_and_question(nano: Bundle):
    spec = nano.manifest.prompt
    made = PromptBuilder(
        spec,
        nano.read_text("chat_template.jinja"),
        Tokenizer.from_str(nano.read_text("tokenizer.json")),
    )
    prompt = made.build([user(None, "What is this?")], [[("tabby cat", 0.801), ("lynx", 0.2)]])
    words = Tokenizer.from_str(nano.read_text("tokenizer.json"))
    before, after = (words.decode(t, skip_special_tokens=False) for t in prompt.texts)
    assert before == (
        "<|im_start|>system\nYou describe pictures in a few words.<|im_end|>\n<|im_start|>user\n"
    )
    assert after == (
        "The picture shows: tabby cat (80%), lynx (20%). What is this?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompt.segments == ((0, 0),)
    assert prompt.texts[0][0] == words.token_to_id("<|im_start|>")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hi"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [
            {"role": "user", "content": "One\n  two {{ not a variable }}"},
            {"role": "assistant", "content": "{% not a tag %}"},
            {"role": "user", "content": "\u6f22\u5b57 \U0001f600"},
        ],
    ],
)
def test_a_conversation_renders_as_plain_jinja2_renders_it(messages: list[dict[str, str]]):
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE)
    assert rendered(builder(), messages) == plain.render(
        messages=messages, add_generation_prompt=True
    )


def test_templates_are_trimmed_as_transformers_does():
    template = "  {% for m in messages %}\n{{ m.content }}\n    {% endfor %}\nend"
    assert rendered(builder(template), [user("a"), user("b")]) == "a\nb\nend"


def test_text_and_pictures_stand_in_the_order_of_the_parts():
    assert rendered(builder(), [user("Left:", None, " right:", None, " Same?")]) == (
        f"<|im_start|>user\nLeft:{MARK} right:{MARK} Same?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_each_picture_has_its_own_labels():
    made = builder(labels=RULE)
    text = rendered(made, [user(None, None, "?")], [[("cat", 0.9)], [("dog", 0.8)]])
    assert f"{MARK}Seen: cat (90%). {MARK}Seen: dog (80%). ?" in text


def test_labels_are_left_out_where_the_manifest_does_not_ask_for_them():
    assert "cat" not in rendered(builder(), [user(None, "?")], [[("cat", 0.9)]])


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([("cat", 0.9), ("dog", 0.06), ("cow", 0.05), ("ant", 0.05)],
         "cat (90%), dog (6%), cow (5%)"),
        ([("cat", 0.01), ("dog", 0.009)], "cat (1%)"),
        ([("cat", 0.5), ("dog", 0.0499)], "cat (50%)"),
    ],
)  # fmt: skip
def test_the_best_label_is_always_written_and_others_if_probable(
    labels: list[tuple[str, float]], sentence: str
):
    assert write_labels(RULE, labels) == f"Seen: {sentence}. "


def test_without_labels_nothing_is_written():
    assert write_labels(RULE, []) == ""


def test_the_manifests_system_turn_is_used_unless_the_caller_gives_one():
    made = builder(system="Be kind.")
    assert rendered(made, [user("Hi")]).startswith("<|im_start|>system\nBe kind.<|im_end|>\n")
    own = rendered(made, [{"role": "system", "content": "Be rude."}, user("Hi")])
    assert own.startswith("<|im_start|>system\nBe rude.<|im_end|>\n")
    assert "Be kind." not in own


def test_nobody_adds_a_system_turn_where_the_manifest_has_none():
    assert "system" not in rendered(builder(), [user("Hi")])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": f"What is {MARK}?"}],
        [user(f"What is {MARK}?")],
        [user(None, f"a{MARK}b")],
        [{"role": "system", "content": MARK}, user("Hi")],
    ],
)
def test_text_that_contains_the_image_marker_is_refused(messages: Any):
    with pytest.raises(ContractError, match=r"contains the image marker '<\|image\|>'"):
        builder().build(messages)


@pytest.mark.parametrize(
    "message",
    [
        {}, {"role": "user"}, {"content": "Hi"}, {"role": 1, "content": "Hi"},
        {"role": "user", "content": None}, {"role": "user", "content": 5},
        {"role": "user", "content": [5]}, {"role": "user", "content": ["Hi"]},
        {"role": "user", "content": [{}]}, {"role": "user", "content": [{"type": "audio"}]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "text", "text": 5}]},
        {"role": "user", "content": {"type": "text", "text": "Hi"}},
        "Hi", None, 7, ["user", "Hi"],
    ],
    ids=repr,
)  # fmt: skip
def test_a_message_of_another_shape_is_refused_with_what_came(message: Any):
    with pytest.raises(ContractError, match="got ") as caught:
        builder().build([message])
    assert "\n" not in str(caught.value)


def test_no_message_at_all_is_refused():
    with pytest.raises(ContractError, match="no message"):
        builder().build([])


def test_a_huge_message_does_not_fill_the_error():
    with pytest.raises(ContractError) as caught:
        builder().build([{"role": "user", "content": [{"type": "?", "text": "x" * 10_000}]}])
    assert len(str(caught.value)) < 400


def test_a_template_that_refuses_says_why():
    refusing = builder("{{ raise_exception('only user turns, please') }}")
    with pytest.raises(ContractError, match="refuses these messages: only user turns, please"):
        refusing.build([user("Hi")])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{{ 1 // 0 }}",
        "{{ messages.nothing.at.all }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_hostile_template_reaches_nothing(template: str):
    with pytest.raises(ContractError, match="the chat template refuses"):
        builder(template).build([user("Hi")])


def test_a_template_that_does_not_compile_is_a_corrupt_bundle():
    with pytest.raises(BundleCorrupt, match="does not compile"):
        builder("{% for m in messages %}")


def test_a_template_knows_the_begin_and_end_tokens():
    made = builder("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    assert rendered(made, [user("Hi")]) == "<|im_start|>Hi<|im_end|>"
    assert rendered(builder("{{ bos_token }}x", bos_token_id=None), [user("")]) == "x"


def test_without_a_template_the_text_is_the_prompt():
    assert rendered(builder(None), [user("Complete ", "this")]) == "Complete this"


def test_a_begin_token_is_added_once_and_only_where_the_manifest_says_so():
    with_bos = builder(None, add_bos=True).build([user("a", None, "b")])
    without = builder(None).build([user("a", None, "b")])
    assert with_bos.texts == ((START, *without.texts[0]), without.texts[1])


def test_the_text_before_the_first_picture_does_not_depend_on_the_picture():
    made = builder(labels=RULE)
    first = made.build([user(None, "?")], [[("cat", 0.9)]])
    second = made.build([user(None, "another question")], [[("dog", 0.4), ("fox", 0.3)]])
    assert first.texts[0] == second.texts[0]
    assert first.texts[1] != second.texts[1]
