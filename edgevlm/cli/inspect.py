"""``edgevlm inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Show graphs, inputs and outputs, precision, sizes, parity, engines and licences of BUNDLE."""
    from edgevlm.bundle import open_bundle
    from edgevlm.cli.console import write_json
    from edgevlm.parity import Certificate

    opened = open_bundle(bundle, verify="size")
    certificate = None
    if "parity.json" in opened.manifest.files:
        stored = Certificate.parse(opened.read_text("parity.json"), str(bundle))
        certificate = stored.with_engines(made.parity for made in opened.manifest.engines.values())
    if as_json:
        manifest = opened.manifest.model_dump(mode="json", exclude={"weights"})
        parity = certificate.model_dump(mode="json") if certificate else None
        write_json({"bundle_id": opened.id, **manifest, "parity": parity})
        return
    _print(opened, certificate)


def _print(opened: Any, certificate: Any) -> None:
    from edgevlm.cli.console import table, to_stdout
    from edgevlm.cli.engine_table import engine_table, lowered_table
    from edgevlm.cli.parity_table import parity_table, repairs

    manifest, console = opened.manifest, to_stdout()
    total = sum(f.size for f in manifest.files.values())
    console.print(
        f"{manifest.name} ({manifest.family}), {manifest.precision}, {total / 1e6:.1f} MB"
    )
    console.print(f"bundle {opened.id}")
    console.print(f"source {manifest.source.sha256}, licence {manifest.source.license}")
    image, visual, text = manifest.image, manifest.visual_tokens, manifest.text
    if image and visual:
        labels = manifest.prompt is not None and manifest.prompt.labels is not None
        others = [str(b.count) for b in visual.budgets if b.count != visual.count]
        most = f" or {', '.join(others)}" if others else " at most"
        console.print(
            f"image {image.describe()}, {visual.count} visual tokens{most} "
            f"({visual.compressor})" + (", labels written into the prompt" if labels else "")
        )
    elif image:
        console.print(f"image {image.describe()}")
    if text:
        console.print(
            f"text up to {text.context_length} tokens, embeddings of {text.width} numbers, "
            f"{text.scores} scores, labels as {text.template!r}"
        )
    if masks := manifest.masks:
        console.print(
            f"masks of points and boxes, {masks.mask_size}x{masks.mask_size}, {masks.candidates} "
            f"a prompt, inside over {masks.threshold:g}"
        )
    memory, kv = manifest.memory, manifest.kv
    context = (
        f"context {kv.capacity} tokens, KV cache {memory.kv_cache / 1e6:.1f} MB {kv.dtype}, "
        if kv
        else ""
    )
    console.print(f"{context}weights {memory.weights / 1e6:.1f} MB")
    for name, graph in manifest.graphs.items():
        rows = [
            [side, t.name, t.dtype, str(list(t.shape)), t.meaning]
            for side, tensors in (("in", graph.inputs), ("out", graph.outputs))
            for t in tensors
            if not t.name.startswith(("past_", "present"))
        ]
        title = f"{name}: {graph.lowering}, {graph.precision}, opset {graph.opset}"
        if graph.exceptions:
            kinds = sorted(set(graph.exceptions.values()))
            title += f", {len(graph.exceptions)} parts in {'/'.join(kinds)}"
        title += "".join(f"; {note}" for note in graph.notes)
        console.print(table(("", "name", "dtype", "shape", "meaning"), rows, title))
    for target, made in manifest.engines.items():
        console.print(engine_table(target, made, manifest.files))
        if (lowered := lowered_table(target, made, manifest.precision)) is not None:
            console.print(lowered)
    if certificate is not None:
        console.print(parity_table(certificate, repairs(manifest)))
    if manifest.parity is not None and manifest.parity.degraded:
        console.print(f"degraded: {'; '.join(manifest.parity.degraded)} (said by every event)")
    console.print(table(("licence files",), [[n] for n in manifest.licenses]))
