"""Whether an H.264 picture refers to one that never came.

libav's decoder conceals a missing reference picture without a word (measured with FFmpeg 8: the
pictures up to the next key frame differ by up to 218 of 255 levels and carry no flag). The slice
headers tell: ``frame_num`` counts reference pictures (ITU-T H.264, 7.4.3), so a step over one is
a loss. HEVC needs none of this: libav gives out no picture whose references are missing.
"""

from __future__ import annotations

from collections.abc import Iterator

HEAD = 64  # bytes of a slice that are looked at; its header's first fields take fewer
SPS_HEAD = 512
_HIGH = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
_SLICE, _IDR, _SPS = 1, 5, 7


class FrameNumbers:
    """Follows ``frame_num`` through a stream.

    Args:
        extradata: the codec's parameter sets, as ``avcC`` or with start codes; may be empty.
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_size = 0
        self._bits = 0  # of frame_num; 0 until a usable SPS came
        self._planes = False
        self._last: int | None = None
        if extradata[:1] == b"\x01" and len(extradata) > 8:
            self._length_size = (extradata[4] & 3) + 1
            size = int.from_bytes(extradata[6:8], "big")
            self._learn(extradata[8 : 8 + size])
        else:
            self.lost(extradata)

    def lost(self, packet: bytes) -> bool:
        """True if a reference picture is missing between the last packet and this one."""
        for unit in self._units(packet):
            kind = unit[0] & 31
            if kind == _SPS:
                self._learn(unit)
            elif kind in (_SLICE, _IDR):
                return self._slice(unit, kind == _IDR)
        return False

    def _slice(self, unit: bytes, idr: bool) -> bool:
        if not self._bits:
            return False
        try:
            bits = _Bits(unit[1:HEAD])
            for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
                bits.golomb()
            if self._planes:
                bits.take(2)
            number = bits.take(self._bits)
        except IndexError:
            return False  # cut short: the decoder will say so
        last = self._last
        if idr or unit[0] >> 5 & 3:  # only reference pictures count on
            self._last = number
        return not idr and last is not None and number not in (last, (last + 1) % (1 << self._bits))

    def _learn(self, unit: bytes) -> None:
        try:
            self._bits, self._planes = _parse_sps(unit)
        except IndexError:
            self._bits = 0

    def _units(self, packet: bytes) -> Iterator[bytes]:
        if self._length_size:
            at = 0
            while at + self._length_size < len(packet):
                start = at + self._length_size
                at = start + int.from_bytes(packet[at:start], "big")
                if packet[start : start + 1]:
                    yield packet[start : min(at, start + SPS_HEAD)]
            return
        at = packet.find(b"\x00\x00\x01")
        while at >= 0:
            following = packet.find(b"\x00\x00\x01", at + 3)
            unit = packet[at + 3 : at + 3 + SPS_HEAD if following < 0 else following]
            if unit:
                yield unit
            at = following


def _parse_sps(unit: bytes) -> tuple[int, bool]:
    """Bits of ``frame_num`` (0 where gaps in it are allowed) and whether planes are separate."""
    profile = unit[1]
    bits = _Bits(unit[4:SPS_HEAD])
    bits.golomb()  # seq_parameter_set_id
    planes = False
    if profile in _HIGH:
        chroma = bits.golomb()
        planes = chroma == 3 and bits.take(1) == 1
        bits.golomb()  # bit depths, less 8
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    length = bits.golomb() + 4
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()  # max_num_ref_frames
    return (0 if bits.take(1) else length), planes


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (last + ((code + 1) // 2 if code & 1 else -(code // 2))) % 256
        last = following or last


class _Bits:
    """Reads bits of a NAL unit's payload; raises IndexError behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data.replace(b"\x00\x00\x03", b"\x00\x00")  # emulation prevention
        self._at = 0

    def take(self, count: int) -> int:
        """An unsigned number of ``count`` bits."""
        value = 0
        for _ in range(count):
            value = value << 1 | (self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1)
            self._at += 1
        return value

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (9.1); a signed one reads the same, its value apart."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
