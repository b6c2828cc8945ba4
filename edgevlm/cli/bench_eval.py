"""``edgevlm bench --eval``: how often a bundle's answers are right, on your own questions."""

from __future__ import annotations

from pathlib import Path


def evaluate(
    bundle: Path, questions: Path, backend: str, threads: int, trust_engines: bool, as_json: bool
) -> None:
    """Print the scores of every kind of question, or all answers with them as JSON."""
    from edgevlm.cli.console import progress, table, to_stdout, write_json
    from edgevlm.runtime.device.evaluation.asking import answered, answered_blind
    from edgevlm.runtime.device.evaluation.calibration import calibration_error
    from edgevlm.runtime.device.evaluation.question_file import read_questions
    from edgevlm.runtime.device.evaluation.scores import scores
    from edgevlm.runtime.device.evaluation.summary import (
        COLUMNS,
        plain,
        plain_answers,
        reliability,
        rows,
    )
    from edgevlm.runtime.model.load import load

    examples = read_questions(questions)
    with (
        load(bundle, backend=backend, threads=threads, trust_engines=trust_engines) as model,
        progress("eval") as report,
    ):
        found = answered(model, examples, report=report)
        blind = answered_blind(model, examples)
        bundle_id = model.bundle.id
    kinds, error = scores(found, blind), calibration_error(reliability(found))
    if as_json:
        write_json(
            {
                "bundle_id": bundle_id, "kinds": plain(kinds), "calibration_error": error,
                "answers": plain_answers(found),
            }
        )  # fmt: skip
        return
    console = to_stdout()
    console.print(table(COLUMNS, rows(kinds)))
    if error is not None:
        console.print(f"calibration error of the answers' confidences: {error:.3f}")
