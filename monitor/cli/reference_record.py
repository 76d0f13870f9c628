"""`driftd reference list` and the record in `show --number`: which references were in force when, and from where.

Shell in that it prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import typer
from rich.table import Table
from sqlalchemy.engine import Engine

from detectors.reference import Profile
from monitor.cli.options import CONFIG, ConfigOption, JsonOption, ModelArgument, err, escape, known, out, show_json
from monitor.cli.stored import has_tables, store_of
from monitor.printable import printable
from monitor.reference.provenance import Origin, OriginKind, config_digest
from monitor.reference.subjects import FEATURES, answers_of, version_of
from monitor.store import reference_records
from monitor.store.reference_records import StoredRecord
from monitor.times import format_time

_DIGITS: Final = 12  # of a hash
_HEADS: Final = ("number", "subject", "since", "until", "rows", "origin", "hash")
_NO_RECORDS: Final = "an earlier release left this store: records begin when `driftd run` first opens it"


def list_references(model: ModelArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """List every reference of a model that is or was in force: since when, until when, and where it came from.

    Subjects are the features, and the answers of each version; numbers count within a subject. Times are of the stream,
    `start` is before the first event. An origin is a table or a built profile of the configuration, predictions
    (learned, or relearned as somebody asked), a window that somebody accepted, the answers in a table, or unknown where
    an earlier release put the reference in force. The latest 50 of each subject are kept however old they are.
    """
    with store_of(config) as p:
        known("model", model, p.config.models)
        found = None
        if not has_tables(p.engine):
            err.print("nothing was committed yet: start it with `driftd run`")
        elif (found := reference_records.records(p.engine, model)) is None:
            err.print(_NO_RECORDS)
        digest = next(config_digest(m) for m in p.core.models if m.name == model)
    if as_json:
        show_json({"references": [document(r, digest) for r in found or ()]})
    elif found:
        out.print(_table(found))
    elif found is not None:
        out.print("no reference was ever in force")


def show_record(
    engine: Engine, model: str, number: int, version: str | None, current: str, as_json: bool,
    profile_document: Callable[[str, Profile], dict[str, Any]], print_profile: Callable[[str, Profile], None],
) -> None:  # fmt: skip
    """Print a record with its profile, as far as that is kept.

    Args:
        engine: The store; it has tables.
        model: Name of the model.
        number: Number of the record.
        version: Whose answers; None for the features.
        current: Digest of the settings that are configured now.
        as_json: Print one line of JSON.
        profile_document: Returns a profile under a title for JSON.
        print_profile: Prints a profile under a title.

    Raises:
        typer.BadParameter: There is no such record.
    """
    subject = FEATURES if version is None else answers_of(version)
    found = reference_records.records(engine, model)
    if found is None:
        raise typer.BadParameter(_NO_RECORDS)
    record = next((r for r in found if (r.subject, r.number) == (subject, number)), None)
    if record is None:
        numbers = ", ".join(str(r.number) for r in found if r.subject == subject)
        raise typer.BadParameter(
            printable(f"--number: {model} has no {subject} {number}; there are {numbers or 'none'}")
        )
    profile = reference_records.profile_of(engine, model, record)
    title = f"{model}: {subject} {number}"
    if profile is None:
        err.print(escape(f"the profile of {title} is not kept any more; this is its record"))
    if as_json:
        kept = None if profile is None else profile_document(title, profile)
        show_json({"record": document(record, current), "profile": kept})
        return
    out.print(_said(record, current))
    if profile is not None:
        print_profile(title, profile)


def document(record: StoredRecord, current: str) -> dict[str, Any]:
    """Return a record for JSON; `current` is the digest of the settings that are configured now."""
    origin = record.origin
    return {
        "subject": record.subject,
        "version": None if record.subject == FEATURES else version_of(record.subject),
        "number": record.number,
        "in_force": record.in_force,
        "since": _time(record.since),
        "until": _time(record.until),
        "rows": record.rows,
        "first": _time(record.first),
        "last": _time(record.last),
        "hash": record.hash,
        "origin": {
            "kind": origin.kind.value,
            "file": origin.file,
            "sha256": origin.sha256,
            "learned_from": None if origin.learned_from is None else origin.learned_from.value,
            "features": origin.features,
            "window": None if origin.window is None else [format_time(ms) for ms in origin.window],
            "who": origin.who,
            "reason": origin.reason,
        },
        "release": record.release,
        "config": record.config,
        "config_is_current": None if record.config is None else record.config == current,
    }


def _table(found: Sequence[StoredRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in _HEADS:
        table.add_column(head, justify="right" if head in ("number", "rows") else "left")
    for r in found:
        row = (str(r.number), r.subject, _since(r), _until(r), str(r.rows), _words(r.origin), r.hash[:_DIGITS])
        table.add_row(*map(escape, row))
    return table


def _said(record: StoredRecord, current: str) -> str:
    """Return a record in lines for people."""
    lines = [f"in force since {_since(record)}, until {_until(record)}", f"origin: {_words(record.origin)}"]
    if record.origin.sha256 is not None:
        lines.append(f"sha256 of the file: {record.origin.sha256}")
    if record.origin.window is not None:
        lines.append("window: {} to {}".format(*map(format_time, record.origin.window)))
    if record.first is not None and record.last is not None:
        lines.append(f"data from {format_time(record.first)} to {format_time(record.last)}")
    if record.config is not None:
        settings = "those that are configured now" if record.config == current else "others than are configured now"
        lines.append(f"made by release {record.release}, with settings {record.config}: {settings}")
    return "\n".join(map(escape, lines))


def _words(origin: Origin) -> str:
    by = f" by {origin.who}" if origin.who else ""
    reason = f": {origin.reason}" if origin.reason else ""
    of = f" of features {origin.features}" if origin.features is not None else ""
    file = f" {origin.file}" if origin.file else ""
    learned = f" from {origin.learned_from.value}" if origin.learned_from and not by else ""
    return f"{origin.kind.value}{file}{learned}{of}{by}{reason}"


def _since(record: StoredRecord) -> str:
    if record.since is None:
        return "unknown" if record.origin.kind is OriginKind.UNKNOWN else "start"
    return format_time(record.since)


def _until(record: StoredRecord) -> str:
    if record.in_force:
        return "in force"
    return "unknown" if record.until is None else format_time(record.until)


def _time(ms: int | None) -> str | None:
    return None if ms is None else format_time(ms)
