"""TensorRT as it behaves on boards that are not here; a child process finds these by name."""

from __future__ import annotations

from edgevlm.export.engines.scripted import ScriptedTensorRT
from edgevlm.export.engines.scripted_ort import ScriptedOrt

JETPACK_7 = ScriptedTensorRT(version="10.16.2")
DESKTOP_11 = ScriptedTensorRT(version="11.4.0", without=frozenset({"STRONGLY_TYPED"}))
JETPACK_6 = ScriptedTensorRT(version="10.3.0.26")
JETPACK_5 = ScriptedTensorRT(version="8.5.2")
# As reported in NVIDIA/TensorRT issues 3355 and 4258, on boards whose memory ran out.
TACTICS_SKIPPED = ScriptedTensorRT(
    version="10.16.2",
    outcome="refused",
    says=(
        "Tactic Device request: 4229MB Available: 2658MB. Device memory is insufficient to use "
        "tactic.",
        "Error Code 10: Internal Error (Could not find any implementation for node /mlp/MatMul.)",
    ),
)
NO_KERNEL = ScriptedTensorRT(
    version="10.16.2",
    outcome="refused",
    says=(
        "Error Code 10: Internal Error (Could not find any implementation for node "
        "{ForeignNode[/layers.0/attn.../lm_head]}.)",
    ),
)
BAD_ALLOC = ScriptedTensorRT(version="10.16.2", outcome="raises", says=("std::bad_alloc",))
KILLED = ScriptedTensorRT(version="10.16.2", outcome="killed")
REFUSED = ScriptedTensorRT(
    version="10.16.2", outcome="refused", says=("Error Code 4: API Usage Error (odd profile)",)
)
NO_IMPORTER = ScriptedTensorRT(version="10.16.2", refuses="TensorScatter")
DROPS_MASK = ScriptedTensorRT(version="10.16.2", drops="mask")
PLUGIN = ScriptedTensorRT(version="10.16.2", plugin="Attention")
ORT = ScriptedOrt()
ORT_WITHOUT = ScriptedOrt(providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
ORT_MEMORY = ScriptedOrt(refuses="TensorRT EP failed to create engine: out of memory")
ORT_FAILS = ScriptedOrt(refuses="TensorRT EP failed to create engine from network")
ORT_LEAVES = ScriptedOrt(leaves="MatMul")
ORT_SILENT = ScriptedOrt(writes=False)
