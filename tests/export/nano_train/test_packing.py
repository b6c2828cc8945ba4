"""Questions packed into one row are answered as each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano import packages
from edgevlm.export.nano_data.picture import Question
from edgevlm.export.nano_train.conversing import answers, hidden_states
from edgevlm.export.nano_train.packing import NONE, VISUAL, Packer
from edgevlm.export.tokenizer_gguf import build_tokenizer

QUESTIONS = (
    Question(kind="presence", text="Is there a dog?", answer="yes"),
    Question(kind="name", text="What is this?", answer="a great blue heron"),
    Question(kind="count", text="How many are there?", answer="3"),
)
LABELS = "The picture shows: cat (50%), dog (20%)."


@pytest.fixture(scope="module")
def packer() -> Packer:
    metadata = GgufFile(packages.DECODER.locate()).metadata
    return Packer(build_tokenizer(metadata), int(metadata["tokenizer.ggml.eos_token_id"]))


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_a_packed_question_sees_the_picture_and_no_other_question(packer, model):
    tokens = torch.randn(1, 4, 32)
    packed = packer.pack(4, [LABELS], [QUESTIONS])
    states = hidden_states(model, tokens, packed)[0, packed.targets[0] != NONE]
    alone = []
    for question in QUESTIONS:
        single = packer.pack(4, [LABELS], [[question]])
        alone.append(hidden_states(model, tokens, single)[0, single.targets[0] != NONE])
    torch.testing.assert_close(states, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_every_answer_weighs_as_much_as_any_other(packer):
    packed = packer.pack(4, ["", LABELS], [QUESTIONS, QUESTIONS[:1]])
    assert packed.weights.sum(1).tolist() == pytest.approx([3.0, 1.0])
    assert (packed.ids == VISUAL).sum(1).tolist() == [4, 4]
    assert ((packed.targets == NONE) == (packed.weights == 0)).all()


def test_a_prompt_is_what_the_runtime_writes(packer, nano):
    from edgevlm.runtime.model.prompt import PromptBuilder
    from edgevlm.runtime.model.tokenizer import read_tokenizer

    spec = nano.manifest.language.prompt
    template = nano.path(spec.chat_template).read_text("utf-8")
    builder = PromptBuilder(spec, template, read_tokenizer(nano))
    content = [{"type": "image"}, {"type": "text", "text": "Is there a dog?"}]
    before, behind = builder.build(
        [{"role": "user", "content": content}], [[("cat", 0.5), ("dog", 0.2)]]
    ).texts
    ours = packer.prompt(3, LABELS, "Is there a dog?")
    assert ours == [*before, *[VISUAL] * 3, *behind]


@torch.no_grad()
def test_greedy_answers_are_those_of_the_whole_sequence_computed_anew(packer, model):
    rng = np.random.default_rng(0)
    tokens = torch.as_tensor(rng.normal(size=(2, 4, 32)).astype(np.float32))
    prompts = [packer.prompt(4, "", QUESTIONS[0].text), packer.prompt(4, LABELS, QUESTIONS[1].text)]
    found = answers(model, tokens, prompts, end=2, most=4)
    table = model.model.embed_tokens.weight
    for row, prompt, ids in zip(tokens, prompts, found, strict=True):
        said: list[int] = []
        for expected in ids:
            visual = iter(row)
            embedded = [table[i] if i != VISUAL else next(visual) for i in [*prompt, *said]]
            logits = model(inputs_embeds=torch.stack(embedded)[None]).logits[0, -1]
            said.append(int(logits.argmax()))
            assert said[-1] == expected
