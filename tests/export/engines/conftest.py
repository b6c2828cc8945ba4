"""One small bundle for all builds, and a short way to build."""

from __future__ import annotations

import pytest

from edgevlm.bundle import Bundle
from edgevlm.export.engines import build, child
from edgevlm.export.engines.job import Compiled, CompileJob
from tests.core.tiny import export_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile here, where a test is not about processes: starting one takes longer."""

    def run_job(job: CompileJob, _say: object) -> Compiled:
        return child.compile_graph(job)

    monkeypatch.setattr(build, "run_job", run_job)
    monkeypatch.setattr(build, "survey", child.survey)
