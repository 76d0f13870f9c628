"""The command `explain`: what the false-alarm budget of a model finds, and how well its promise is founded.

Shell.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from monitor.cli.explained import show_explanation
from monitor.cli.options import CONFIG, ConfigOption, JsonOption, ModelArgument, err, known, out, show_json
from monitor.cli.stored import has_tables, store_of
from monitor.clock import wall_ms
from monitor.evaluation.explanation import Explanation
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.pipeline import Pipeline
from monitor.service.app import Components
from monitor.service.session import Session
from monitor.serving.role import named_versions
from monitor.times import format_time

_SHOWN: Final = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("explain")(explain)


def explain(
    model: ModelArgument,
    config: ConfigOption = CONFIG,
    version: Annotated[str | None, typer.Option(help="Only this version.")] = None,
    features: Annotated[int, typer.Option(min=1, help="Print at most so many features; --json has all.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Explain which changes of a model would be found, how soon, and how well its false-alarm promise is founded.

    For each version: how many false alarms a check may raise, and the shares of drift, data quality and rules. For each
    feature: the smallest change that its windows find, whether the budget or the minimum effect decides that, the
    window that finds it first, and after how many events. For each rule: the smallest change beyond its limit. A change
    of this size is found in about half of the windows that lie wholly after it; larger ones are found sooner.

    The promise is kept where what it rests on was learned. It is assumed where the reference is short, has no order of
    time, was built by an earlier release, or is a rolling one of less than whole windows, and while a rule has too few
    panes to learn how much its events depend on each other. Where nothing is watched, there is no promise.

    It is answered from the last commit, with or without a running daemon. Before the first one, the reference of the
    configuration is read.
    """
    with (
        store_of(config) as p,
        Progress(*_SHOWN, console=err, transient=True, disable=not err.is_terminal) as bar,
    ):
        known("model", model, p.config.models)
        task = bar.add_task("reading the last commit")
        session = Session.read_only(p.core, p.engine) if has_tables(p.engine) else Session(p.core)
        found = next(m for m in session.pipeline.models if m.spec.name == model)
        if found.references.profile is None and not found.references.relearning:
            _read_reference(
                p, session, model, lambda rows: bar.update(task, description=f"{rows:,} rows of two readings")
            )
        add_expected(session.pipeline, found)
        bar.update(task, description="computing what windows find")
        document = explanation_of(found).document(version)
        if version is not None and not document["versions"]:
            known("version", version, [v.version for v in found.versions.states.values()])
        reached = session.pipeline.watermark.now
    document["as_of"] = format_time(reached) if session.restored and reached >= 0 else None
    if as_json:
        show_json(document)
    else:
        show_explanation(out, document, features)


def _read_reference(p: Components, session: Session, model: str, progress: Any) -> None:
    files = {name: file for name, file in p.references.items() if name == model}
    session.activate(files, wall_ms(), progress)


def add_expected(pipeline: Pipeline, model: ModelMonitor) -> None:
    """Begin the versions that a decision names and that have sent nothing yet, to say what would be found of them."""
    seen = {state.version for state in model.versions.states.values()}
    for name in sorted(named_versions(model.controller.serving) - seen):
        model.versions[pipeline.variants[model.spec.name, name]]


def explanation_of(model: ModelMonitor) -> Explanation:
    """Return what explains the versions of a model."""
    return Explanation(
        model.spec, model.versions.states, model.references, model.controller, tuple(model.user_metrics)
    )  # fmt: skip
