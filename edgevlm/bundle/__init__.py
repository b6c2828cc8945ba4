"""The bundle: the one thing that ``edgevlm.export`` writes and ``edgevlm.runtime`` reads."""

from edgevlm.bundle.archive import pack, unpack_once
from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.manifest import Manifest
from edgevlm.bundle.reader import Bundle, Verify, check_files, open_bundle, read_manifest
from edgevlm.bundle.writer import BundleWriter

__all__ = [
    "Bundle",
    "BundleWriter",
    "DecoderSpec",
    "ImageSpec",
    "Manifest",
    "RopeScaling",
    "Verify",
    "check_files",
    "open_bundle",
    "pack",
    "read_manifest",
    "unpack_once",
]
