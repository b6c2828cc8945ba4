from __future__ import annotations

import pytest

from edgevlm.cli.console import table, to_stdout


def test_what_stands_in_brackets_in_a_table_is_shown(capfd: pytest.CaptureFixture[str]):
    to_stdout().print(table(("name", "remedy"), [["ort-cuda", "pip install 'edgevlm[cuda]'"]]))
    assert "pip install 'edgevlm[cuda]'" in capfd.readouterr().out
