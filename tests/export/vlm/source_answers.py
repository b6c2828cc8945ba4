"""What transformers' own processor and model make of conversations; run with the oracles.

``python -m tests.export.vlm.source_answers CHECKPOINT CONVERSATIONS.json OUT.npz``
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.export.vlm import STEPS


def pil_backend(processor: Any) -> Any:
    """The same processor with the Pillow image processor of its family."""
    import transformers

    current = processor.image_processor
    name = type(current).__name__.removesuffix("Fast").removesuffix("Pil")
    replacement = getattr(transformers, f"{name}Pil", None)
    if replacement is not None:
        settings = {k: v for k, v in current.to_dict().items() if not k.endswith("_type")}
        processor.image_processor = replacement(**settings)
    elif name == "Lfm2VlImageProcessor":
        resize_with_pillow()
    return processor


def resize_with_pillow() -> None:
    """Let processors that have no Pillow form resize with it, to compare the models bit by bit."""
    import torch
    from PIL import Image
    from transformers.image_processing_backends import TorchvisionBackend

    def resize(_self: Any, image: Any, size: Any, resample: Any = None, **_more: Any) -> Any:
        shape = (size.width, size.height)
        resized = [
            np.asarray(Image.fromarray(one.permute(1, 2, 0).numpy()).resize(shape, int(resample)))
            for one in image.reshape(-1, *image.shape[-3:])
        ]
        planes = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
        return planes.reshape(*image.shape[:-2], *planes.shape[-2:])

    TorchvisionBackend.resize = resize


def main(arguments: list[str]) -> None:
    """Write ids, logits and tokens of every conversation."""
    warnings.simplefilter("ignore")
    import torch
    import transformers
    from PIL import Image

    transformers.utils.logging.set_verbosity_error()
    folder, conversations, out = map(Path, arguments)
    processor = pil_backend(transformers.AutoProcessor.from_pretrained(folder))
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    results: dict[str, np.ndarray] = {}
    for n, case in enumerate(json.loads(conversations.read_text())):
        images = [Image.open(path).convert("RGB") for path in case["images"]]
        if "text" in case:
            text = case["text"]
        else:
            text = processor.apply_chat_template(case["messages"], add_generation_prompt=True)
        special = {"add_special_tokens": False} if "messages" in case else {}
        inputs = processor(
            text=[text], images=[images] if images else None, return_tensors="pt", **special
        )
        with torch.inference_mode():
            logits = model(**inputs).logits[0, -1]
            done = model.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=STEPS, pad_token_id=0
            )
        results[f"{n}.ids"] = inputs["input_ids"][0].numpy()
        results[f"{n}.logits"] = logits.float().numpy()
        begun = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        results[f"{n}.tokens"] = done[0, begun:].numpy()
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1:])
