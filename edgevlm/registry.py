"""Names to implementations, found without importing any of them.

Built-in names are a table of ``"module:attribute"``; third parties add theirs through the
entry-point group ``edgevlm.<kind>``. Only the entry that is asked for gets imported.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from edgevlm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """One implementation: where it lives, what it is, what it needs."""

    target: str
    summary: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """A kind of plug-in.

    Args:
        kind: plural noun, as in ``edgevlm list <kind>``.
        entries: the built-in ones.
    """

    kind: str
    entries: Mapping[str, Entry]

    def known(self) -> dict[str, Entry]:
        """Every name this installation knows, built-in ones first, third parties' after."""
        found = dict(self.entries)
        for point in entry_points(group=f"edgevlm.{self.kind}"):
            summary = f"from {point.dist.name}" if point.dist is not None else "third party"
            found.setdefault(point.name, Entry(point.value, summary))
        return found

    def resolve(self, name: str) -> Any:
        """Import and return the implementation called ``name``.

        Raises:
            ConfigError: no such name; the message lists the known ones.
        """
        known = self.known()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown name {name!r} among the {self.kind}: {', '.join(known)}{hint}"
            )
        module, _, attribute = known[name].target.partition(":")
        return getattr(importlib.import_module(module), attribute)


BACKENDS = Registry(
    "backends",
    {
        "ort-cpu": Entry(
            "edgevlm.runtime.backends.ort_cpu:OrtCpuBackend",
            "ONNX Runtime, CPU provider",
            "onnxruntime (extra: cpu)",
        ),
        "ort-cuda": Entry(
            "edgevlm.runtime.backends.ort_cuda:OrtCudaBackend",
            "ONNX Runtime on an NVIDIA GPU, for fp16 bundles",
            "onnxruntime-gpu (extra: cuda), NVIDIA driver",
        ),
        "ort-trt": Entry(
            "edgevlm.runtime.backends.ort_trt:OrtTrtBackend",
            "TensorRT through ONNX Runtime (edgevlm build --target ort-trt)",
            "onnxruntime-gpu (extra: cuda), TensorRT 10, NVIDIA driver",
        ),
        "trt": Entry(
            "edgevlm.runtime.backends.trt:TrtBackend",
            "TensorRT engines (edgevlm build --target trt)",
            "TensorRT 10.3 or later (JetPack's own), NVIDIA driver",
        ),
        "trt-rtx": Entry(
            "edgevlm.runtime.backends.trt_rtx:TrtRtxBackend",
            "TensorRT-RTX engines (edgevlm build --target trt-rtx:sm86)",
            "tensorrt-rtx and cuda-bindings (extra: trt-rtx), NVIDIA driver",
        ),
        "ort-trt-rtx": Entry(
            "edgevlm.runtime.backends.ort_trt_rtx:OrtTrtRtxBackend",
            "TensorRT-RTX through its ONNX Runtime plug-in, for fp16 bundles",
            "onnxruntime, plug-in (extra: ort-trt-rtx), NVIDIA driver",
        ),
    },
)

SOURCES = Registry(
    "sources",
    {
        "v4l2": Entry(
            "edgevlm.runtime.stream.sources.camera:CameraSource",
            "USB or built-in camera: 0, v4l2:///dev/video0, v4l2:///dev/v4l/by-id/NAME",
        ),
        "csi": Entry(
            "edgevlm.runtime.stream.sources.csi:CsiSource",
            "camera of a board, scaled by its ISP: csi://0?size=1280x720&fps=30",
            "GStreamer for Python (gi), the board's camera elements",
        ),
        "rtsp": Entry(
            "edgevlm.runtime.stream.sources.rtsp:RtspSource",
            "network camera: rtsp://, rtsps://; ...#transport=udp",
        ),
        "http": Entry(
            "edgevlm.runtime.stream.sources.http:HttpSource",
            "Motion JPEG, HLS or a file: http://, https://",
        ),
        "file": Entry("edgevlm.runtime.stream.sources.video:VideoFileSource", "a video file"),
        "images": Entry(
            "edgevlm.runtime.stream.sources.images:ImageSource", "a folder or glob of images"
        ),
        "mcap": Entry(
            "edgevlm.runtime.stream.sources.recording:RecordingSource",
            "images of a robot's log: mcap:FILE?topic=/camera/image",
            "mcap, rosbags (extra: ros)",
        ),
        "rosbag2": Entry(
            "edgevlm.runtime.stream.sources.recording:RecordingSource",
            "images of a ROS 2 bag: rosbag2:DIR?topic=/camera/image",
            "mcap, rosbags (extra: ros)",
        ),
        "ros2": Entry(
            "edgevlm.runtime.stream.sources.ros2:Ros2Source",
            "live ROS 2 topic: ros2:/camera/image",
            "rclpy (of a ROS 2 installation)",
        ),
        "gst": Entry(
            "edgevlm.runtime.stream.sources.gst:GstSource",
            "gst:PIPELINE ! appsink",
            "GStreamer for Python (gi)",
        ),
        "synthetic": Entry(
            "edgevlm.runtime.stream.sources.synthetic:SyntheticSource",
            "synthetic:?seed=1&fps=30&frames=300&size=1920x1080",
        ),
    },
)

SINKS = Registry(
    "sinks",
    {
        "jsonl": Entry(
            "edgevlm.runtime.stream.sinks.jsonl:JsonLinesFileSink",
            "jsonl:PATH, one JSON object a line (stdout has them in any case)",
        ),
        "sqlite": Entry(
            "edgevlm.runtime.stream.sinks.sqlite:SqliteSink",
            "sqlite:PATH?days=30&embed=BUNDLE, the event store: `edgevlm events` reads it",
        ),
        "video": Entry(
            "edgevlm.runtime.stream.sinks.video:VideoSink",
            "video:PATH.mp4, the frames that were looked at with the answers that stood",
        ),
        "rtsp": Entry(
            "edgevlm.runtime.stream.sinks.rtsp:RtspSink", "as rtsps:, without encryption"
        ),
        "rtsps": Entry(
            "edgevlm.runtime.stream.sinks.rtsp:RtspSink",
            "rtsps://USER@HOST/PATH#password_env=NAME, frames with answers on an RTSP server",
        ),
        "ros2": Entry(
            "edgevlm.runtime.stream.sinks.ros2:Ros2Sink",
            "ros2:/TOPIC, each event as a std_msgs/String with JSON",
            "rclpy (of a ROS 2 installation)",
        ),
        "http": Entry(
            "edgevlm.runtime.stream.sinks.webhook:WebhookSink", "as https:, without encryption"
        ),
        "https": Entry(
            "edgevlm.runtime.stream.sinks.webhook:WebhookSink",
            "https://HOST/PATH#secret_env=NAME, a signed POST an event",
        ),
        "mqtt": Entry(
            "edgevlm.runtime.stream.sinks.mqtt:MqttSink",
            "as mqtts:, without encryption",
            "paho-mqtt (extra: mqtt)",
        ),
        "mqtts": Entry(
            "edgevlm.runtime.stream.sinks.mqtt:MqttSink",
            "mqtts://USER@HOST/TOPIC#password_env=NAME, an MQTT 5 broker",
            "paho-mqtt (extra: mqtt)",
        ),
    },
)

COMPRESSORS = Registry(
    "compressors",
    {
        "grid": Entry(
            "edgevlm.export.compressors.grid:GridPool",
            "average pooling of the patch grid to 1, 4, 9, 16 or 49 tokens",
        ),
    },
)

FAMILIES = Registry(
    "families",
    {
        "llama": Entry("edgevlm.export.models.llama:FAMILY", "Llama, SmolLM2 (text)"),
        "qwen2": Entry("edgevlm.export.models.qwen2:FAMILY", "Qwen2, Qwen2.5 (text)"),
        "qwen3": Entry("edgevlm.export.models.qwen3:FAMILY", "Qwen3 (text)"),
        "gemma": Entry("edgevlm.export.models.gemma:GEMMA", "Gemma (text)"),
        "gemma2": Entry("edgevlm.export.models.gemma:GEMMA2", "Gemma 2 (text)"),
        "gemma3_text": Entry("edgevlm.export.models.gemma:GEMMA3", "Gemma 3 (text)"),
        "lfm2": Entry("edgevlm.export.models.lfm2:FAMILY", "LFM2 (text)"),
        "smolvlm": Entry(
            "edgevlm.export.models.smolvlm:FAMILY", "SmolVLM, SmolVLM2", "transformers"
        ),
        "llava_onevision": Entry(
            "edgevlm.export.models.llava_onevision:FAMILY", "LLaVA-OneVision", "transformers"
        ),
        "internvl": Entry(
            "edgevlm.export.models.internvl:FAMILY", "InternVL 2.5 and 3 (-hf)", "transformers"
        ),
        "fast_vlm": Entry("edgevlm.export.models.fast_vlm:FAMILY", "FastVLM", "transformers, timm"),
        "paligemma": Entry(
            "edgevlm.export.models.paligemma:FAMILY", "PaliGemma, PaliGemma 2", "transformers"
        ),
        "lfm2_vl": Entry("edgevlm.export.models.lfm2_vl:FAMILY", "LFM2-VL", "transformers"),
        "florence2": Entry("edgevlm.export.models.florence2:FAMILY", "Florence-2", "transformers"),
        "qwen2_vl": Entry("edgevlm.export.models.qwen2_vl:FAMILY", "Qwen2-VL", "transformers"),
        "qwen2_5_vl": Entry(
            "edgevlm.export.models.qwen2_5_vl:FAMILY", "Qwen2.5-VL", "transformers"
        ),
        "qwen3_vl": Entry("edgevlm.export.models.qwen3_vl:FAMILY", "Qwen3-VL", "transformers"),
        "clip": Entry("edgevlm.export.models.clip:FAMILY", "CLIP (encoder)", "transformers"),
        "clip_vision_model": Entry(
            "edgevlm.export.models.clip:VISION", "CLIP's vision tower", "transformers"
        ),
        "siglip": Entry(
            "edgevlm.export.models.siglip:FAMILY",
            "SigLIP, SigLIP 2 at one size (encoder)",
            "transformers",
        ),
        "siglip_vision_model": Entry(
            "edgevlm.export.models.siglip:VISION", "SigLIP's vision tower", "transformers"
        ),
        "siglip2": Entry(
            "edgevlm.export.models.siglip2:FAMILY", "SigLIP 2 NaFlex (encoder)", "transformers"
        ),
        "siglip2_vision_model": Entry(
            "edgevlm.export.models.siglip2:VISION", "its vision tower", "transformers"
        ),
        "dinov2": Entry("edgevlm.export.models.dinov2:FAMILY", "DINOv2 (encoder)", "transformers"),
        "dinov2_with_registers": Entry(
            "edgevlm.export.models.dinov2:REGISTERS", "DINOv2 with registers", "transformers"
        ),
        "idefics3": Entry("edgevlm.export.models.smolvlm:IDEFICS3", "Idefics3", "transformers"),
        "sam_clip": Entry(
            "edgevlm.export.models.sam_clip:FAMILY",
            "SAM and CLIP on one image encoder (docs/sam-clip.md)",
            "transformers",
        ),
        "mobileclip": Entry(
            "edgevlm.export.models.mobileclip:FAMILY", "MobileCLIP (open_clip's files)", "torch"
        ),
        "sam": Entry(
            "edgevlm.export.models.sam:FAMILY", "SAM: masks of points and boxes", "transformers"
        ),
    },
)
