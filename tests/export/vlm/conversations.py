"""The conversations that every chat family is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHAPES = {"wide": (37, 211), "tall": (160, 61), "photo": (120, 163), "small": (29, 31)}


def picture(folder: Path, name: str) -> str:
    """A picture with structure at every scale; saved once."""
    path = folder / f"{name}.png"
    if not path.exists():
        height, width = SHAPES[name]
        y, x = np.mgrid[0:height, 0:width]
        random = np.random.default_rng(height)
        base = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 9 + y / 5)], -1)
        Image.fromarray(
            np.clip(base + random.normal(0, 25, base.shape), 0, 255).astype(np.uint8)
        ).save(path)
    return str(path)


def turn(role: str, *parts: str) -> dict[str, Any]:
    """One message; ``IMAGE`` stands for a picture."""
    content = [{"type": "image"} if p == "IMAGE" else {"type": "text", "text": p} for p in parts]
    return {"role": role, "content": content}


def write(folder: Path) -> Path:
    """Odd shapes alone, two pictures, several turns, and text only."""
    folder.mkdir(parents=True, exist_ok=True)
    ask = "What is there?"
    cases = [
        {"images": [picture(folder, name)], "messages": [turn("user", "IMAGE", ask)]}
        for name in SHAPES
    ]
    pair = [picture(folder, "photo"), picture(folder, "tall")]
    cases.append({"images": pair, "messages": [turn("user", "IMAGE", "IMAGE", "Which is older?")]})
    cases.append(
        {
            "images": pair,
            "messages": [
                turn("user", "IMAGE", ask),
                turn("assistant", "A boat."),
                turn("user", "IMAGE", "And here?"),
            ],
        }
    )
    cases.append({"images": [], "messages": [turn("user", "Tell me of the sea.")]})
    path = folder / "conversations.json"
    path.write_text(json.dumps(cases))
    return path
