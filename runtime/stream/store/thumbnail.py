"""A small picture of a frame, for people to look at."""

from __future__ import annotations

import io

from PIL import Image

from edgevlm.frame import Frame

THUMBNAIL_PX = 192


def thumbnail(frame: Frame) -> bytes:
    """A JPEG of at most ``THUMBNAIL_PX`` on its longer side."""
    picture = Image.fromarray(frame.pixels.rgb())
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return written.getvalue()
