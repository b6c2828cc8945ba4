"""How Florence-2 is asked: a task as a token, written out as the processor does."""

from __future__ import annotations

import json

ALONE = {
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
}
ABOUT = {
    "<CAPTION_TO_PHRASE_GROUNDING>": "Locate the phrases in the caption: {input}",
    "<REFERRING_EXPRESSION_SEGMENTATION>": "Locate {input} in the image with mask",
    "<REGION_TO_SEGMENTATION>": "What is the polygon mask of region {input}",
    "<OPEN_VOCABULARY_DETECTION>": "Locate {input} in the image.",
    "<REGION_TO_CATEGORY>": "What is the region {input}?",
    "<REGION_TO_DESCRIPTION>": "What does the region {input} describe?",
    "<REGION_TO_OCR>": "What text is in the region {input}?",
}

# Nothing is remembered from turn to turn, and one picture is all the model was trained with.
TEMPLATE = """\
{%- set alone = ALONE %}
{%- set about = ABOUT %}
{%- set ask = namespace(pictures=0, text='') %}
{%- if messages | length != 1 or messages[0]['role'] != 'user' %}
{{- raise_exception('Florence-2 takes one user turn: it knows no conversation') }}
{%- endif %}
{%- for part in messages[0]['content'] %}
{%- if part['type'] == 'image' %}{% set ask.pictures = ask.pictures + 1 %}
{%- else %}{% set ask.text = ask.text + part['text'] %}{% endif %}
{%- endfor %}
{%- if ask.pictures > 1 %}
{{- raise_exception('Florence-2 takes one picture, got ' ~ ask.pictures) }}
{%- endif %}
{%- for task, words in alone.items() %}
{%- if task in ask.text %}
{%- if ask.text != task %}
{{- raise_exception('the task ' ~ task ~ ' stands alone: take the other words out') }}
{%- endif %}
{%- set ask.text = words %}{% break %}
{%- endif %}
{%- endfor %}
{%- for task, words in about.items() %}
{%- if task in ask.text %}
{%- set ask.text = words.replace('{input}', ask.text.replace(task, '').strip()) %}{% break %}
{%- endif %}
{%- endfor %}
{%- if ask.pictures %}{{ 'MARKER' ~ bos_token ~ ask.text ~ eos_token }}
{%- else %}{{ ask.text }}{% endif %}
"""


def task_template(marker: str) -> str:
    """The chat template: the picture, and the text between the ends of a text.

    Args:
        marker: the token that stands for a visual row.

    Source: transformers' ``Florence2Processor``, whose texts these are.
    """
    filled = TEMPLATE.replace("ALONE", json.dumps(ALONE)).replace("ABOUT", json.dumps(ABOUT))
    return filled.replace("MARKER", marker).rstrip("\n")
