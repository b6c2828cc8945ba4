"""Decoders over a cache of fixed length: what exporter and runtime must agree on.

Graphs of these lowerings take ``positions`` where ``ort-gqa`` takes lengths, and ``logit_rows``
where it takes a count; ``docs/lowerings.md`` has the tables.
"""

from __future__ import annotations

from typing import Literal

StaticLowering = Literal["onnx-std", "trt10-compat"]
ONNX_STD: StaticLowering = "onnx-std"  # the cache is updated in place
TRT10_COMPAT: StaticLowering = "trt10-compat"  # the caller puts the new rows into the cache
CALL_ROWS = 512  # rows a call at most: an engine reserves memory for its largest call
LOGIT_ROWS = 16  # of them with logits: a vocabulary wide each
