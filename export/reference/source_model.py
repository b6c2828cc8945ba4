"""The reference of imported vision-language models: transformers, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.probe_case import cases
from edgevlm.errors import CheckpointError, ExportError
from edgevlm.export.progress import Progress
from edgevlm.export.reference.child import run_module


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersReference:
    """The checkpoint as transformers runs it, on inputs that the bundle's own runtime prepared.

    Args:
        folder: the checkpoint.
        module: what is run: it takes the checkpoint, the folder of the cases and the adapter.
        adapter: a peft adapter, merged by peft itself.
        check_images: a folder of pictures, each of which becomes a case.
    """

    folder: Path
    module: str = "edgevlm.export.reference.transformers_vlm"
    adapter: Path | None = None
    check_images: Path | None = None

    def write(self, root: Path, progress: Progress) -> None:
        """Write ``probe/``: the runtime makes the inputs, then the model answers them."""
        arguments = [root] if self.check_images is None else [root, self.check_images]
        run_module(
            "edgevlm.runtime.model.probe_inputs", *arguments, doing="preparing the parity probe"
        )
        progress.step("probe inputs")
        extra = [] if self.adapter is None else [self.adapter]
        try:
            run_module(
                self.module,
                self.folder,
                root / "probe",
                *extra,
                doing="running the source model",
            )
        except ExportError as exc:
            raise CheckpointError(str(exc)) from exc
        for case in cases(root / "probe"):
            case.forget_pixels()
        progress.step("source model")
