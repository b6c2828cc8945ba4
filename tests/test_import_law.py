"""The rooms of the house: who may import whom, read from the source and from fresh interpreters."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A room imports from itself and from what is listed; the roof from everything.
GROUND = (
    "errors",
    "tensors",
    "cuda_driver",
    "frame",
    "answer",
    "event",
    "area",
    "conditions",
    "rules",
    "tasks",
    "gates",
    "known_keys",
    "config",
    "box",
    "colour",
    "scene_text",
    "registry",
    "rope",
    "parity",
    "bundle",
    "cost",
)
MAY_IMPORT = {
    "ground": set(),
    "export": {"ground"},
    "backends": {"ground"},
    "model": {"ground", "backends"},
    "perception": {"ground", "backends", "model"},
    "stream": {"ground", "backends", "model", "perception"},
    "device": {"ground", "backends", "model", "perception", "stream"},
    "pack": {"ground"},
    "cli": {
        "ground",
        "export",
        "pack",
        "backends",
        "model",
        "perception",
        "stream",
        "device",
        "package",
    },
    "main": {"cli"},
    "package": set(),  # edgevlm/__init__.py re-exports lazily and is exempt
}
ROOMS = ("backends", "model", "perception", "stream", "device")  # of runtime/
LINES_AT_MOST = 400
LINES_WITHOUT_A_REASON = 250
LONG: dict[str, str] = {
    "edgevlm/registry.py": "a table: one entry a plug-in",
    "edgevlm/config.py": "every setting of a stream, explained in its section",
    "edgevlm/parity.py": "every record of the certificate, beside the gates that judge it",
    "runtime/stream/isolation/proxy.py": "the methods of vlm.py once more",
    "runtime/model/prompt.py": "the whole way from messages through a chat template to tokens",
    "runtime/model/vlm.py": "what users call, every argument explained",
}


def sources() -> dict[str, Path]:
    """Module name -> file, the symlinked packages under their public names."""
    found = {}
    for folder, prefix in (("edgevlm", ""), ("export", "edgevlm."), ("runtime", "edgevlm.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] in (("edgevlm", "export"), ("edgevlm", "runtime")):
                continue  # Python 3.13 walks through links: their content comes from the top
            name = prefix + ".".join(parts)
            found[name.removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def room_of(module: str) -> str:
    """The room of a module's dotted name.

    Raises:
        LookupError: it is in none.
    """
    parts = module.split(".")
    if parts == ["edgevlm"]:
        return "package"
    if parts[1] in GROUND:
        return "ground"
    if parts[1] == "__main__":
        return "main"
    if parts[1] in ("cli", "export", "pack"):
        return parts[1]
    if parts[1] == "runtime" and len(parts) == 2:
        return "ground"  # the empty package above the four floors
    if parts[1] == "runtime" and parts[2] in ROOMS:
        return parts[2]
    raise LookupError(f"{module} is in no room: add it to GROUND or move it")


def imports(module: str, is_package: bool, tree: ast.AST) -> Iterator[str]:
    """Every module that ``module`` imports anywhere, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".")
                above = here[: len(here) - node.level + is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in SOURCES else base


def reads_only_the_version(tree: ast.AST) -> bool:
    """True unless the lazy package is used as a back door to a higher room."""
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "edgevlm"
        for alias in node.names
        if f"edgevlm.{alias.name}" not in SOURCES
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "edgevlm"
    }
    return taken | used == {"__version__"}


def violations(module: str, text: str, is_package: bool = False) -> list[str]:
    """What ``text``, as the content of ``module``, imports against the law."""
    room = room_of(module)
    if room == "package":
        return []
    allowed = MAY_IMPORT[room] | {room}
    tree = ast.parse(text)
    if reads_only_the_version(tree):
        allowed.add("package")
    return [
        f"{module} ({room}) imports {name} ({room_of(name)})"
        for name in imports(module, is_package, tree)
        if name.split(".")[0] == "edgevlm" and room_of(name) not in allowed
    ]


def test_every_module_imports_only_from_the_rooms_below_it():
    broken = [
        line
        for module, path in SOURCES.items()
        for line in violations(module, path.read_text("utf-8"), path.name == "__init__.py")
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("edgevlm.errors", "from edgevlm.runtime.model.vlm import Vlm"),
        ("edgevlm.bundle.reader", "import edgevlm.export.pipeline"),
        ("edgevlm.export.pipeline", "from edgevlm.runtime.model.certify import certify"),
        ("edgevlm.runtime.model.load", "from edgevlm.export.pipeline import export"),
        ("edgevlm.runtime.backends.base", "from edgevlm.runtime.model import decode"),
        ("edgevlm.runtime.backends.base", "from ..model import decode"),
        ("edgevlm.runtime.model.vlm", "def f():\n    from edgevlm.runtime.stream.run import run"),
        ("edgevlm.runtime.stream.run", "import edgevlm.runtime.device.doctor"),
        ("edgevlm.runtime.device.doctor", "from edgevlm.cli.console import table"),
        ("edgevlm.runtime.model.vlm", "import edgevlm\nedgevlm.run"),
        ("edgevlm.runtime.model.vlm", "from edgevlm import __version__, run"),
        ("edgevlm.__main__", "from edgevlm.bundle import open_bundle"),
    ],
)
def test_the_law_notices_an_import_against_it(module: str, line: str):
    assert violations(module, line)


def test_every_module_stands_in_a_room():
    assert {room_of(module) for module in SOURCES} == set(MAY_IMPORT)


def test_the_empty_packages_import_nothing():
    for name in ("edgevlm.runtime", "edgevlm.export"):
        tree = ast.parse(SOURCES[name].read_text("utf-8"))
        assert [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)] == []


def test_modules_are_imported_by_name_only_where_names_are_resolved():
    dynamic = {
        module
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("import_module", "__import__"))
        or (isinstance(node, ast.Name) and node.id in ("import_module", "__import__"))
    }
    peers = "edgevlm.runtime.device.peers.protocol"  # third-party engines, for `bench --against`
    compilers = "edgevlm.export.engines.library"  # TensorRT's modules, for `build --target`
    assert dynamic <= {"edgevlm", "edgevlm.registry", peers, compilers}


def concurrency(text: str) -> list[str]:
    """Every way in which ``text`` starts a thread or a process pool."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{n}" for n in names]
            found += [
                n
                for n in names
                if n.split(".")[0] in ("multiprocessing", "concurrent", "asyncio", "_thread")
                or n in ("threading.Thread", "threading.Timer")
            ]
        elif isinstance(node, ast.Attribute) and node.attr in ("Thread", "Timer", "fork"):
            found.append(ast.unparse(node))
    return found


def imported(text: str) -> set[str]:
    """Names of the modules that ``text`` imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_threads_start_in_one_file_only():
    starting = {m for m, p in SOURCES.items() if concurrency(p.read_text("utf-8"))}
    # A stream has its threads in one place; training composes its pictures in several processes.
    assert starting == {"edgevlm.runtime.stream.handover", "edgevlm.export.nano_train.cache"}


@pytest.mark.parametrize(
    "line",
    [
        "import threading\nthreading.Thread(target=f).start()",
        "from threading import Thread",
        "import multiprocessing.shared_memory",
        "from concurrent.futures import ThreadPoolExecutor",
        "import asyncio",
    ],
)
def test_the_thread_rule_notices_every_spelling(line: str):
    assert concurrency(line)


def test_children_of_a_stream_start_in_one_file_only():
    starting = {
        module
        for module, path in SOURCES.items()
        if room_of(module) in ("backends", "model", "stream")
        and "subprocess" in {n.split(".")[0] for n in imported(path.read_text("utf-8"))}
    }
    assert starting == {"edgevlm.runtime.stream.worker"}


def test_nothing_prints_outside_the_command_line():
    printing = [
        f"{module}:{node.lineno}"
        for module, path in SOURCES.items()
        if room_of(module) != "cli"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert printing == []


def test_no_module_is_long_without_a_reason():
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8").count("\n")
        for path in SOURCES.values()
    }
    assert {n: k for n, k in lengths.items() if k > LINES_AT_MOST} == {}
    long = {n for n, k in lengths.items() if k > LINES_WITHOUT_A_REASON}
    assert long - LONG.keys() == set(), "split it, or give the reason in LONG"
    assert LONG.keys() - long == set(), "no longer long: take it out of LONG"


def loaded_by(statements: str) -> set[str]:
    """The top-level modules, and ours in full, after a fresh interpreter ran ``statements``."""
    code = f"{statements}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    names = json.loads(done.stdout.splitlines()[-1])
    return {n if n.startswith("edgevlm") else n.split(".")[0] for n in names}


def every_module_of(package: str, besides: str = "-") -> str:
    """Statements that import every module of a package, besides those of another within it."""
    return "\n".join(
        f"import {m}"
        for m in SOURCES
        if (m == package or m.startswith(f"{package}.")) and not m.startswith(besides)
    )


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import edgevlm")
    assert loaded & {
        "pydantic", "typer", "rich", "torch", "transformers", "onnx", "onnxruntime", "cv2", "av",
        "PIL", "tokenizers", "jinja2",
    } == set()  # fmt: skip
    assert {n for n in loaded if n.startswith("edgevlm.")} == set()


def test_importing_all_of_the_runtime_loads_no_engine_and_nothing_of_the_export():
    loaded = loaded_by(every_module_of("edgevlm.runtime"))
    assert "edgevlm.runtime.stream.run" in loaded
    assert loaded & {"torch", "transformers", "onnx", "onnxruntime", "cv2", "typer"} == set()
    assert {n for n in loaded if n.startswith(("edgevlm.export", "edgevlm.cli"))} == set()


def test_importing_all_of_the_export_works_without_torch():
    absent = "import sys\nfor n in ('torch', 'transformers', 'onnxruntime'): sys.modules[n] = None"
    modules = every_module_of("edgevlm.export", besides="edgevlm.export.nano_train")
    loaded = loaded_by(f"{absent}\n{modules}")
    assert "edgevlm.export.decoder.ort_gqa" in loaded
    assert {n for n in loaded if n.startswith(("edgevlm.runtime", "edgevlm.cli"))} == set()
