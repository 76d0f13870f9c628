"""`driftd check-config`, `driftd topics`: preparation of the first start, and repair of positions.

Shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from monitor.cli.options import CONFIG, ConfigOption, JsonOption, configuration, err, escape, known, out, show_json
from monitor.config import build
from monitor.config.schema import Configuration
from monitor.evaluation.foundation import Foundation, events_of, on_reference
from monitor.evaluation.notes import (
    notes_of,
    notes_on_effects,
    notes_on_learning,
    notes_on_nothing,
    notes_on_rolling,
    notes_on_windows,
)
from monitor.names import feature_of, shown_name, shown_names
from monitor.service.app import open_stream, parts
from monitor.spec import Bound, BudgetSpec, Consequence, LimitBasis, ModelSpec, RuleSpec
from monitor.store import schema
from monitor.store.owner import is_gone
from monitor.store.progress import adopt_topic, move_to
from monitor.stream.types import TopicState

_MIB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("check-config")(check_config)
    app.command("topics")(topics)


_UNMEASURED: Final = "agreement with shadows is not measured without outcomes, such as `outcomes: {within: 10m}`"


def check_config(
    config: ConfigOption = CONFIG,
    rate: Annotated[
        float, typer.Option(min=0, help="Predictions per second of each model, for the memory estimate.")
    ] = 100.0,
    as_json: JsonOption = False,
) -> None:
    """Validate the configuration and its reference files, and print a summary. Makes no connections.

    All errors are printed, each with its key and what is accepted instead; then the exit code is 78.
    """
    p = parts(configuration(config))
    need = build.memory_need(p.config, rate)
    models = {m.name: _about(m, rate, p.core.limits.learning) for m in p.core.models}
    specs = {m.name: m for m in p.core.models}
    for name, file in p.references.items():
        profile = file.profile()
        founded = Foundation(tuple(on_reference(profile, events_of(specs[name].window, profile))))
        models[name]["reference"] = {
            "path": str(file.path), "rows": profile.rows, "features": shown_names(profile),
            "metrics": {metric: baseline.value for metric, baseline in profile.baselines.items()},
            "notices": [*profile.notices, *file.notices],
            "founded": founded.state, "assumed_because": list(founded.reasons),
        }  # fmt: skip
    webhooks = [{"name": w.name, "kinds": sorted(w.kinds), "max_age_s": w.max_age_ms / 1000} for w in p.webhooks]
    document = {
        "ok": True,
        "models": models,
        "webhooks": webhooks,
        "memory_mb": {
            "waiting": round(need.pending / _MIB), "seen": round(need.seen / _MIB),
            "windows": round(need.windows / _MIB), "in_order": round(need.waiting / _MIB),
            "rolling": round(need.rolling / _MIB),
        },
    }  # fmt: skip
    if as_json:
        show_json(document)
        return
    for name, about in models.items():
        out.print(f"[bold]{escape(name)}[/bold]: {about['task']}, champion {escape(about['champion'])}")
        unwatched = "" if about["drift"] else "; drift is not checked"
        out.print(f"  window: {about['window']}; false alarms: {about['false_alarms']}{unwatched}")
        if "reference" in about:
            told = about["reference"]
            out.print(f"  reference: {escape(told['path'])}, {told['rows']} rows, {len(told['features'])} features")
            for notice in told["notices"]:
                out.print(f"    note: {escape(notice)}")
            for reason in told["assumed_because"]:
                out.print(f"    false alarms: the promise is assumed: {escape(reason)}")
        elif about["learn"]:
            out.print(f"  reference: learned from the first {about['learn']} predictions")
        for rule in about["rules"]:
            out.print(f"  rule {escape(rule)}")
        for note in about["notes"]:
            out.print(f"  note: {escape(note)}")
    for webhook in p.webhooks:
        out.print(f"webhook {escape(webhook.name)}: {' and '.join(sorted(webhook.kinds))}")
    rolling = f", {need.rolling // _MIB} MB for what rolling references are made from" if need.rolling else ""
    out.print(
        f"memory at {rate:g} predictions a second: up to {need.pending // _MIB} MB for pending predictions, "
        f"{need.seen // _MIB} MB for recognising duplicates, {need.windows // _MIB} MB for windows, "
        f"{need.waiting // _MIB} MB for what waits to be processed in the order of time{rolling}"
    )
    out.print("[green]the configuration is valid[/green]")


def _on_names(m: ModelSpec) -> list[str]:
    return [
        f"features: {name} is the model's own {name}; a feature called {name} is {shown_name(name)}"
        for name in m.feature_kinds
        if feature_of(name) is None
    ]


def _about(m: ModelSpec, per_second: float, most: int) -> dict[str, Any]:
    w = m.window
    window = (
        f"the last {w.events} predictions, checked every {w.every}"
        if w.counted
        else f"{w.span / 60_000:g} min and at least {w.min_events} predictions, checked every {w.pane / 1000:g} s"
    )
    return {
        "task": m.task.value,
        "champion": m.serving.champion,
        "window": window,
        "false_alarms": _budget(m.budget),
        "drift": m.drift is not None,
        "learn": m.reference.learn,
        "rules": [_rule(r) for r in m.rules],
        "notes": [
            *([_UNMEASURED] if m.serving.shadows and m.outcomes is None else []),
            *notes_on_nothing(m), *notes_of(m), *notes_on_windows(m), *notes_on_effects(m),
            *notes_on_learning(m), *notes_on_rolling(m, per_second, most), *_on_names(m),
        ],
    }  # fmt: skip


def _budget(budget: BudgetSpec) -> str:
    if budget.events:
        return f"{budget.alarms:g} per {budget.events} events"
    return f"{budget.alarms:g} per {budget.period / 86_400_000:g} days"


def _rule(rule: RuleSpec) -> str:
    sign = "above" if rule.bound is Bound.ABOVE else "below"
    limit = {
        LimitBasis.NOTHING: f"{rule.limit:g}",
        LimitBasis.SHARE: f"{rule.limit:.0%} of baseline",
        LimitBasis.POINTS: f"baseline {rule.limit:+g}",
    }[rule.reference]
    dwell = f" for {rule.dwell / 60_000:g} min" if rule.dwell else f" for {rule.checks} checks"
    then = "" if rule.then is Consequence.NONE else f", then {rule.then.value}"
    return f"{rule.name}: {rule.metric} {sign} {limit}{dwell}: {rule.severity.value}{then}"


def topics(
    config: ConfigOption = CONFIG,
    create: Annotated[bool, typer.Option("--create", help="Create missing topics.")] = False,
    adopt: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="TOPIC was deleted and created again: read the new one from its beginning."),
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC:PARTITION:OFFSET", help="Continue reading at OFFSET, skipping records that cannot be read."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check the topics, and create missing ones. Exits 75 if a topic is missing or not compacted as required.

    The topics of alerts and decisions must be compacted. --adopt and --skip change the stored positions; stop the
    daemon before.
    """
    c = configuration(config)
    if adopt is not None or skip is not None:
        _move(c, adopt, skip)
    wanted = build.topics(c)
    admin = open_stream(c, c.stream.events).admin()
    try:
        if create:
            admin.create(wanted)
        found = admin.check(wanted)
    finally:
        admin.close()
    if as_json:
        show_json({"topics": {name: state.value for name, state in found.items()}})
    else:
        for name, state in found.items():
            colour = "green" if state is TopicState.PRESENT else "red"
            out.print(f"{escape(name)}: [{colour}]{state.value.replace('_', ' ')}[/]")
        if TopicState.MISSING in found.values():
            err.print("create missing topics with `driftd topics --create`")
    return 0 if all(state is TopicState.PRESENT for state in found.values()) else 75


def _move(c: Configuration, adopt: str | None, skip: str | None) -> None:
    p = parts(c)
    try:
        schema.upgrade(p.engine)
        if adopt is not None:
            known("topic of events", adopt, c.stream.events)
            source = p.stream.source()
            try:
                bounds = source.bounds([q for q in source.partitions() if q.topic == adopt])
                first = {q: start for q, (start, _) in bounds.items()}
                adopt_topic(p.engine, adopt, first, source.identities().get(adopt, ""), c.store.lease / 1000, is_gone)
            finally:
                source.close()
            err.print(f"{escape(adopt)} is read from its beginning")
        if skip is not None:
            topic, number, offset = _place(skip)
            known("topic of events", topic, c.stream.events)
            before = move_to(p.engine, topic, number, offset, c.store.lease / 1000, is_gone)
            err.print(f"{escape(f'{topic}[{number}]')} goes on at {offset}; it was at {before}")
    finally:
        p.engine.dispose()


def _place(text: str) -> tuple[str, int, int]:
    parts_of: Sequence[str] = text.rsplit(":", 2)
    if len(parts_of) != 3 or not (parts_of[1].isdigit() and parts_of[2].isdigit()):
        raise typer.BadParameter(f"--skip: {text}: write TOPIC:PARTITION:OFFSET, such as ml.predictions:0:1234")
    return parts_of[0], int(parts_of[1]), int(parts_of[2])
