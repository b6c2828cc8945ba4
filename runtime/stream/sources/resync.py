"""After a loss, pictures count again from the next key frame on."""

from __future__ import annotations

from typing import Any

from edgevlm.runtime.stream.sources.h264 import FrameNumbers

DAMAGED = "the decoder marked it corrupt"
TRANSPORT_STREAMS = ("mpegts", "hls")
REFERS = "it refers to a picture that was lost or damaged"


class Resync:
    """Which decoded pictures can be shown: whole ones that refer to whole ones.

    Args:
        codec: an ``av`` video codec context.
        container: libav's name of the container's format.
    """

    def __init__(self, codec: Any, container: str) -> None:
        # Where one transport stream follows another, as in HLS, the last whole packet is marked.
        self._marks = container not in TRANSPORT_STREAMS
        self._numbers = None
        if codec.name == "h264":
            self._numbers = FrameNumbers(bytes(codec.extradata or b""))
        self._last: Any = None
        self._broken = False
        self._since: int | None = None  # where the damage begins, in decoding order; None: anywhere

    def sent(self, packet: Any) -> None:
        """Look at a packet before it is decoded."""
        self._last = packet
        lost = self._numbers is not None and self._numbers.lost(bytes(packet))
        if lost or (self._marks and packet.is_corrupt):
            self.damaged(packet)

    def damaged(self, item: Any | None) -> None:
        """Damage from this packet or picture on; from the last packet on if None."""
        item = item or self._last
        stamp = None if item is None else _order(item)
        if not self._broken:
            self._broken, self._since = True, stamp
        elif self._since is not None:
            self._since = None if stamp is None else min(self._since, stamp)

    def judge(self, picture: Any) -> str | None:
        """Why a decoded picture cannot be shown; None if it can."""
        if picture.is_corrupt:
            self.damaged(picture)
            return DAMAGED
        stamp = _order(picture)
        before = self._since is not None and stamp is not None and stamp < self._since
        if not self._broken or before:
            return None
        if picture.key_frame:
            self._broken = False
            return None
        return REFERS


def _order(item: Any) -> int | None:
    """A stamp that grows in decoding order, where there is one."""
    stamp: int | None = item.pts if item.dts is None else item.dts
    return stamp
