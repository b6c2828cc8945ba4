"""One model, one setting, one device: time of every stage, memory, answers and joules."""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.bundle.manifest import Precision
from edgevlm.cost import CostSheet, PictureSetting
from edgevlm.errors import ConfigError
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.runtime.device.plan.engines import Engine, engine_of
from edgevlm.runtime.device.plan.frames import FrameCost, frame_cost
from edgevlm.runtime.device.plan.memory import Memory, memory
from edgevlm.runtime.device.plan.roofline import call_ms, rates

DEFAULT_CONTEXT = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked of a frame.

    Args:
        width: of the frame, pixels.
        height: likewise.
        question_tokens: of the text around the picture.
        output_tokens: of an answer.
        context: tokens of the cache; None takes the bundle's, or what the exporter would.
    """

    width: int = 1280
    height: int = 720
    question_tokens: int = 32
    output_tokens: int = 16
    context: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Milliseconds, rates and memory; tokens of the prompt and of the cache.

    ``joules_per_answer`` takes the device's power mode as drawn all the time, which is the most it
    can be; None where the device has no cap.
    """

    precision: Precision
    image_size: int | None
    visual_tokens: int
    prompt_tokens: int
    context: int
    encode_ms: float
    prefill_ms: float
    decode_ms_per_token: float
    answer_ms: float
    answers_per_s: float
    decode_tokens_per_s: float
    joules_per_answer: float | None
    memory: Memory
    fits: bool


def precisions(sheet: CostSheet) -> tuple[Precision, ...]:
    """Those that the sheet has weights for in every graph."""
    graphs = [s.vision for s in sheet.settings[:1]]
    graphs += [g for g in (sheet.encoder, sheet.decoder) if g is not None]
    known = [set(g.weights.total) for g in graphs]
    return tuple(p for p in ("fp32", "fp16", "int8", "int4") if all(p in k for k in known))


def predict(
    sheet: CostSheet,
    setting: PictureSetting | None,
    precision: Precision,
    device: Device,
    ask: Ask,
    engine: Engine | None = None,
) -> Prediction:
    """Predict one answer.

    Raises:
        ConfigError: a precision that the bundle does not have, a context that is too short for the
            prompt or too long for the model, or a frame that the model does not take.
    """
    if precision not in precisions(sheet):
        raise ConfigError(
            f"--precision {precision}: {sheet.name} is planned in {', '.join(precisions(sheet))}"
        )
    engine = engine or engine_of(device)
    limits = rates(device, engine, precision)
    frame = None if setting is None else frame_cost(setting, ask.width, ask.height)
    encode = 0.0
    if setting is not None and frame is not None:
        encode = frame.calls * call_ms(
            setting.vision, precision, limits, engine, count=frame.count, rows=frame.rows
        )
    prompt = _prompt(sheet, frame, ask)
    context = _context(sheet, prompt, ask)
    prefill = step = 0.0
    if sheet.encoder is not None:  # the prompt goes through the encoder, the answer starts empty
        prefill = call_ms(sheet.encoder, precision, limits, engine, count=prompt, rows=prompt)
    elif sheet.decoder is not None:
        prefill = call_ms(sheet.decoder, precision, limits, engine, count=prompt, rows=prompt)
    if sheet.decoder is not None:
        past = ask.output_tokens / 2 + (0 if sheet.encoder is not None else prompt)
        step = call_ms(sheet.decoder, precision, limits, engine, count=1, rows=1, past=past)
    steps = ask.output_tokens - (0 if sheet.encoder is not None else 1)
    answer = encode + prefill + (step * max(steps, 0) if sheet.decoder is not None else 0.0)
    needs = memory(
        sheet, setting, precision, engine, context=context, prompt=prompt,
        encoder_count=min(frame.count, 4) if frame and setting and setting.vision.unit == "tiles"
        else float(frame.count if frame else 0),
    )  # fmt: skip
    available = device.usable_gb * 1e3
    return Prediction(
        precision=precision,
        image_size=None if setting is None else setting.image_size,
        visual_tokens=0 if frame is None else frame.visual_tokens,
        prompt_tokens=prompt,
        context=context,
        encode_ms=encode,
        prefill_ms=prefill,
        decode_ms_per_token=step,
        answer_ms=answer,
        answers_per_s=1e3 / answer,
        decode_tokens_per_s=1e3 / step if step else 0.0,
        joules_per_answer=None if device.power_w is None else device.power_w * answer / 1e3,
        memory=needs,
        fits=max(needs.run_mb, needs.build_mb) <= available,
    )


def _prompt(sheet: CostSheet, frame: FrameCost | None, ask: Ask) -> int:
    if sheet.decoder is None:
        return 0
    shown = 0 if frame is None else frame.visual_tokens + frame.marker_tokens
    return shown + ask.question_tokens


def _context(sheet: CostSheet, prompt: int, ask: Ask) -> int:
    if sheet.decoder is None:
        return 0
    least = prompt + ask.output_tokens if sheet.encoder is None else ask.output_tokens
    roomy = min(max(DEFAULT_CONTEXT, 2 * prompt), sheet.max_context)
    context = ask.context or sheet.capacity or roomy
    if sheet.capacity is not None and context > sheet.capacity:
        raise ConfigError(f"--context {context}: the bundle's cache holds {sheet.capacity} tokens")
    if context > sheet.max_context:
        raise ConfigError(f"--context {context}: {sheet.name} has {sheet.max_context} positions")
    if context < least:
        raise ConfigError(
            f"--context {context}: the prompt has {prompt} tokens and the answer "
            f"{ask.output_tokens}; ask for at least {least}, or for fewer visual tokens"
        )
    return context
