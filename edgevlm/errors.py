"""Every error edgevlm raises on purpose.

::

    EdgeVLMError
    ├── ConfigError                  a config file or a combination of options
    │   └── Overcommitted            promised rates are more than this machine can do
    ├── ContractError (ValueError)   an argument that does not fit
    │   ├── ImageError               a picture that cannot be taken
    │   ├── ContextOverflow          more tokens than the KV cache holds
    │   └── SchemaError              a JSON Schema that no answer can be held to
    ├── BundleError                  a bundle on disk
    │   ├── BundleCorrupt            missing, extra or changed files; a path outside
    │   ├── BundleVersion            written by an unknown format version
    │   └── BundleExists             the target is already there
    ├── BankError                    a bank of taught patches on disk
    ├── BackendError                 an engine refused or failed
    │   ├── BackendUnavailable       what was asked for is not installed here
    │   ├── BackendGone              it failed too often, and is not tried again
    │   ├── BackendMemoryError       memory ended at this work; less of it may fit
    │   ├── GraphRefused             a graph that this backend does not take
    │   ├── EngineMismatch           compiled for another device, version or bundle, or damaged
    │   └── EngineUntrusted          made elsewhere, and nobody vouches for it
    ├── SourceError                  a camera, file or stream
    │   ├── SourceUnavailable        it cannot be opened
    │   │   └── SourceUnauthorized   it wants other credentials
    │   └── SourceStalled            it stopped delivering
    ├── SinkError                    events do not reach where they should go
    │   └── EmbeddingMismatch        vectors of another model than the event store's
    ├── PackError                    an archive for a board cannot be made
    └── ExportError                  checkpoint to bundle
        ├── CheckpointError          missing, damaged or unknown weights
        ├── ParityError              the bundle does not agree with its source
        └── BuildError               a graph cannot become an engine
            ├── UnsupportedOperator  the target has no such operator, type or attribute
            └── BuildMemoryError     the compiler ran out of memory

A message names what came, what was wanted and, where there is one, the remedy, in one line.
"""

from __future__ import annotations


class EdgeVLMError(Exception):
    """Base of every error that edgevlm raises on purpose."""


class ConfigError(EdgeVLMError):
    """A config file, or a combination of options, cannot be used."""


class Overcommitted(ConfigError):
    """The rates that streams are promised are more than the model can do on this machine."""


class ContractError(EdgeVLMError, ValueError):
    """An argument does not fit what the function takes."""


class ImageError(ContractError):
    """A picture is empty, undecodable or over the size cap."""


class ContextOverflow(ContractError):
    """A prompt, or a prompt and its answer, needs more tokens than the KV cache holds."""


class SchemaError(ContractError):
    """A JSON Schema is none, or has a keyword that an answer cannot be held to."""


class BundleError(EdgeVLMError):
    """A bundle on disk cannot be used."""


class BundleCorrupt(BundleError):
    """A bundle has a missing, extra or changed file, or names a path outside itself."""


class BundleVersion(BundleError):
    """A bundle was written by a format version that this release does not read."""


class BundleExists(BundleError):
    """The target of an export is already there and was not to be replaced."""


class BankError(EdgeVLMError):
    """A bank of taught patches is missing, damaged, or of another encoder."""


class BackendError(EdgeVLMError):
    """An engine refused a graph or failed while running it."""


class BackendUnavailable(BackendError):
    """The engine or provider that was asked for is not on this machine."""


class BackendGone(BackendError):
    """What ran the model failed too often, and is not started again."""


class BackendMemoryError(BackendError):
    """Memory ended in the middle of some work; less of it may fit."""


class GraphRefused(BackendError):
    """A backend that is here does not take a graph: damaged, or operators that it lacks."""


class EngineMismatch(BackendError):
    """An engine was compiled for another device, library version or bundle, or is damaged."""


class EngineUntrusted(BackendError):
    """An engine is not in this device's build record, and ``--trust-engines`` was not given."""


class SourceError(EdgeVLMError):
    """A frame source failed."""


class SourceUnavailable(SourceError):
    """A frame source cannot be opened."""


class SourceUnauthorized(SourceUnavailable):
    """A frame source refused the credentials, or wants some."""


class SourceStalled(SourceError):
    """A live source stopped delivering frames."""


class SinkError(EdgeVLMError):
    """A sink cannot be opened, or cannot deliver events."""


class EmbeddingMismatch(SinkError):
    """Vectors of one model do not compare with those of another, which the event store holds."""


class PackError(EdgeVLMError):
    """An archive for a board cannot be made."""


class ExportError(EdgeVLMError):
    """A checkpoint cannot become a bundle."""


class CheckpointError(ExportError):
    """A checkpoint is missing, damaged or of an unknown kind."""


class ParityError(ExportError):
    """The exported graphs do not agree with the model they came from."""


class BuildError(ExportError):
    """An engine compiler refused a graph or failed."""


class UnsupportedOperator(BuildError):
    """A graph has an operator, type or attribute that the target does not take."""


class BuildMemoryError(BuildError):
    """The compiler, or the device it measures on, ran out of memory."""
