"""Gather nano: which packages, which connector, which prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgevlm.bundle.confidence import ConfidenceSpec
from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.bundle.manifest import Precision
from edgevlm.bundle.matching import MatchSpec
from edgevlm.bundle.prompt import LabelPrompt, PromptSpec
from edgevlm.bundle.visual_tokens import TokenBudget, VisualTokens
from edgevlm.errors import ConfigError
from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.heads.match import MatchHead
from edgevlm.export.model_parts import ExportOptions, GraphPart, ModelParts
from edgevlm.export.nano import connector, efficientnet, heads, lora, packages, patches, queries
from edgevlm.export.nano.head_cases import HeadCases
from edgevlm.export.nano.mask_graph import MaskPart, mask_spec
from edgevlm.export.nano.scene_part import SCENE, read_words
from edgevlm.export.nano.text_part import TextPart
from edgevlm.export.nano.vision import NanoVision
from edgevlm.export.probe import GraphCase
from edgevlm.export.reference.direct import DirectReference
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.export.torch_legacy import read_state_dict
from edgevlm.registry import COMPRESSORS
from edgevlm.tensors import Array, Float32

IMAGE_SIZE = 224
TOKENS = 16
CAPACITY = 4096  # patches of a bank: five pictures whole, or the most different ones of many
# Chosen on `python -m benchmarks.photographs --compare`: labels and tokens together name the
# subject at least as often as labels alone, and tokens alone far less often.
SYSTEM = "You describe pictures in a few words."
LABELS = LabelPrompt(
    file="labels.json",
    output="class_probabilities",
    top=3,
    min_probability=0.05,
    template="The picture shows: {labels}. ",
    item="{name} ({percent}%)",
)

# Printed by `python -m benchmarks.confidence` of the int4 bundle: fitted on the first half of the
# pictures. On the other half they take the expected calibration error of fields from 0.28 to 0.10,
# and that of free answers from 0.59 to 0.03 (nano is seldom right about drawings).
CONFIDENCE = ConfidenceSpec(
    fields=4.18,
    answers=2.12,
    fitted_on="55 drawn pictures, four fields and one free answer each (benchmarks/confidence.py)",
)
# In 4 bits these drift most once corrections are merged, with one rule for all layers: a repair
# raises the same ones, layer by layer, and takes half of the export's time to find them.
HELD: dict[str, Precision] = {"*.self_attn.o_proj": "int8", "*.mlp.down_proj": "int8"}


def gather(options: ExportOptions) -> ModelParts:
    """Read nano's packages, and what it was trained to.

    Raises:
        CheckpointError: a package is missing, or holds another file than the pinned one; trained
            weights that are missing or damaged.
        ConfigError: an image size or token count that the encoder cannot give.
    """
    for flag, value in (("--adapter", options.adapter), ("--check-images", options.check_images)):
        if value is not None:
            raise ConfigError(f"{flag} {value}: nano is built in and takes neither")
    folder = options.weights
    trained = None if folder is None else heads.read_heads(folder)
    size, pool = _size_and_pool(options, trained)
    files = (packages.DECODER, packages.ENCODER, packages.CLASS_NAMES)
    paths = tuple(file.locate() for file in files)
    language = GgufFile(paths[0])
    adapted = language if folder is None else lora.AdaptedWeights(language, folder)
    tokenizer = build_tokenizer(language.metadata)
    names = packages.class_names()
    state = read_state_dict(paths[1])
    table = language.get("embed_tokens.weight")
    named = np.stack([_mean_row(table, tokenizer.encode(f" {n}").ids) for n in names])
    length = float(np.linalg.norm(table, axis=1).mean())
    end = int(language.metadata["tokenizer.ggml.eos_token_id"])
    licenses = {f"{f.module}.txt": text for f in files if (text := f.license_text()) is not None}
    licenses["README.txt"] = "".join(
        f"{f.module}/{f.path}: {f.license}, from the package {f.package}\n" for f in files
    )
    vision = NanoVision(
        net=efficientnet.from_state_dict(state),
        patches=patches.stage(state),
        connector=connector.fit(state, named, length),
        pool=pool,
        image_size=size,
        heads=trained,
    )
    visual = _visual_tokens(vision)
    return ModelParts(
        name="nano",
        family="nano",
        license="Apache-2.0",
        spec=language.spec,
        weights=adapted,
        tokenizer=tokenizer,
        chat_template=str(language.metadata["tokenizer.chat_template"]),
        prompt=PromptSpec(
            system=SYSTEM,
            bos_token_id=int(language.metadata["tokenizer.ggml.bos_token_id"]),
            stop_token_ids=(end, 0),
            labels=LABELS,
            scene=None if folder is None else SCENE,
        ),
        precision="int4",
        held={} if folder is None else HELD,
        weight_files=(*paths, *([] if folder is None else sorted(folder.glob("*.safetensors")))),
        parts=_parts(vision),
        sharing=() if trained is None else (TextPart(head=trained.semantic),),
        reference=DirectReference(
            spec=language.spec,
            weights=adapted,
            tokenizer=tokenizer,
            vision=vision.reference,
            image_size=(size, size),
            visual_rows=visual.rows(),
            heads=_no_cases
            if trained is None
            else HeadCases(heads=trained, tokenizer=tokenizer, table=table).of,
        ),
        image=_image(size),
        visual_tokens=visual,
        extra_files={
            LABELS.file: json.dumps(names, ensure_ascii=False, indent=0) + "\n",
            **({} if folder is None else {SCENE.file: read_words(folder)}),
        },
        licenses=licenses,
        sections={"confidence": CONFIDENCE, **_sections(vision)},
    )


def resized(parts: ModelParts, options: ExportOptions) -> ModelParts:
    """The same model for pictures of another size, or with another number of tokens.

    Args:
        parts: from ``gather``; its reference stays that of the old size.
        options: the new choice.

    Raises:
        ConfigError: as ``gather``.
    """
    vision, *_ = parts.parts
    assert isinstance(vision, NanoVision)
    size, pool = _size_and_pool(options, vision.heads)
    other = replace(vision, pool=pool, image_size=size)
    return replace(
        parts,
        parts=_parts(other),
        sections={**parts.sections, **_sections(other)},
        image=_image(size),
        visual_tokens=_visual_tokens(other),
    )


def _no_cases(_: Mapping[str, Array]) -> Iterator[GraphCase]:
    return iter(())


def _parts(vision: NanoVision) -> tuple[GraphPart, ...]:
    masks = [] if vision.heads is None else [MaskPart(vision.heads.mask, vision.image_size)]
    return (vision, MatchHead(_matching(vision)), *masks)


def _sections(vision: NanoVision) -> dict[str, Any]:
    found: dict[str, Any] = {"matching": _matching(vision)}
    return found if vision.heads is None else {**found, "masks": mask_spec(vision.image_size)}


def _visual_tokens(vision: NanoVision) -> VisualTokens:
    count = vision.pool.tokens
    budgets = {} if vision.heads is None else queries.budgets()
    return VisualTokens(
        count=count,
        compressor="grid",
        options={"tokens": count},
        budgets=tuple(TokenBudget(count=n, first=first) for n, first in budgets.items()),
    )


def _matching(vision: NanoVision) -> MatchSpec:
    side = vision.image_size // patches.STRIDE
    return MatchSpec(rows=side, columns=side, width=vision.patches.width, capacity=CAPACITY)


def _image(size: int) -> ImageSpec:
    return ImageSpec(
        policy=Fit(height=size, width=size, fit="letterbox", background=(255, 255, 255)),
        resample="bicubic",
        reducing_gap=2.0,  # halves the time for camera frames
        alpha="white",
        follows="edgevlm nano",
    )


def _size_and_pool(options: ExportOptions, trained: heads.Heads | None) -> tuple[int, GridPool]:
    size = IMAGE_SIZE if options.image_size is None else options.image_size
    least, most = (64, 1024) if trained is None else (heads.SMALLEST, heads.LARGEST)
    if size % efficientnet.STRIDE or not least <= size <= most:
        raise ConfigError(
            f"--image-size {size}: nano takes a multiple of {efficientnet.STRIDE} from {least} to "
            f"{most}"
        )
    pool = _pool(options)
    pool.matrix(size // efficientnet.STRIDE)  # refuses more tokens than cells
    if trained is not None and pool.tokens not in (budgets := queries.budgets()):
        raise ConfigError(
            f"--tokens {pool.tokens}: nano was trained for {', '.join(map(str, budgets))}"
        )
    return size, pool


def _pool(options: ExportOptions) -> GridPool:
    name, _, settings = (options.compressor or "grid").partition(":")
    if settings:
        raise ConfigError(f"compressor {name!r} takes no settings, got {settings!r}; use --tokens")
    count = TOKENS if options.tokens is None else options.tokens
    pool = COMPRESSORS.resolve(name)(count)
    if not isinstance(pool, GridPool):
        raise ConfigError(f"nano takes the compressor 'grid', not {name!r}")
    return pool


def _mean_row(table: Float32, token_ids: list[int]) -> Float32:
    mean: Float32 = table[token_ids].mean(0)
    return mean
