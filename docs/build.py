"""Generate the pages of the documentation that follow from the code: `python docs/build.py`.

`configuration.md` is the schema of the configuration as tables, `metrics.md` lists the metrics of `/metrics`.
`tests/docs/test_made.py` fails if the files are not up to date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from fallback.types import Reason
from monitor.aggregation.metrics import METRICS
from monitor.alerting.records import AlertKind
from monitor.config import units
from monitor.config.schema import Configuration
from monitor.events.refusals import Refusal
from monitor.publishing.loop import GivenUp
from monitor.times import duration_text
from monitor.web.metrics import DECLARED

HERE: Final = Path(__file__).parent
_UNITS: Final[Mapping[Any, str]] = {
    units.duration_ms: "duration",
    units.share: "share",
    units.budget: "false-alarm budget",
    units.limit: "limit",
    units.points: "points",
    units.dwell: "checks or duration",
    units.whole: "whole number",
    units.number: "number",
    units.text: "text",
    units.label: "number, text, boolean or null",
}
_PLAIN: Final[Mapping[Any, str]] = {bool: "boolean", str: "text", Any: "any"}

CONFIGURATION: Final = """\
# Configuration

<!-- Made by `python docs/build.py` from monitor/config/schema.py. -->

The configuration is one YAML file. [`config/driftd.yaml`](../config/driftd.yaml) shows every key in context, with when
to change it; this page is the reference. `driftd check-config` reports all errors of a file, each with the key, the
value found and what is accepted.

- Unknown keys and duplicate keys are refused.
- A **duration** is a number with a unit: `500ms`, `10s`, `15m`, `6h`, `7d`, `2w`. A **share** is `5%` or `0.05`. A
  **false-alarm budget** is `1 per 30d` or `1 per 100000 events`. A **limit** is a number in the metric's own unit, a
  share for metrics that are shares, or `105% of baseline`; **points** are `3 points` or a number in the metric's own
  unit.
- `${NAME}` is replaced by the environment variable `NAME`. Take secrets from there, or from the file under `…_file`;
  they never appear in logs or errors.
- Relative paths are relative to the working directory of the daemon.
- A text that YAML would read as a number, a date or a boolean needs quotes: `"1.10"`, `"no"`.

Keys without a default are **needed**. `NAME` stands for a name of your own, `[]` for each member of a list.
"""

METRICS_PAGE: Final = """\
# Metrics

<!-- Made by `python docs/build.py` from monitor/web/metrics.py and monitor/aggregation/metrics.py. -->

`/metrics` shows the committed state: it never counts anything that a crash would undo. The number of series is bounded
by the models of the configuration and `limits.versions`.

`driftd_feature_drift_ratio` is the effect of the strongest detector in the latest window, divided by its `min_effect`:
at 1 or more it counts, and an alert begins where it is more than chance as well; it is the effect itself where
`min_effect` is 0. `kind` is `drift` or `data_quality` (missing and unseen values). A feature that the latest window
could not judge has no series, so absence is not calm. Followed are up to 50 features of those under `features:`, or the
first 20 of the reference where none is given a kind there; the version's own `prediction` and `score`; and up to 20
features that an alert of the version lists. How long a reference has been in force is
`driftd_stream_time_seconds - on (instance) group_right driftd_reference_since_seconds`.

Counters with labels are there from the start, at 0. Beside
them stand `process_cpu_seconds_total`, `process_resident_memory_bytes` and the other `process_` metrics of Prometheus's
client.

`config/prometheus-rules.yaml` has alerting rules made of them, each with what to do; `config/grafana-dashboard.json` is
a dashboard.

"""


# -- the configuration -----------------------------------------------------------------------------------


def configuration() -> str:
    """Return the text of `configuration.md`."""
    return CONFIGURATION + "".join(_section(path, section) for path, section in _sections("", Configuration))


def _sections(path: str, section: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield all sections with their paths, each before the sections within it."""
    yield path, section
    for key, field in _fields(section):
        for inner, steps in _sections_of(field.annotation):
            yield from _sections(f"{path}.{key}{steps}" if path else f"{key}{steps}", inner)


def _sections_of(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the sections of a type, with the path from its key to each."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
        return
    steps = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        for inner, more in _sections_of(part):
            yield inner, steps + more


def _fields(section: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(field.alias or name, field) for name, field in section.model_fields.items()]


def _section(path: str, section: type[BaseModel]) -> str:
    title = f"`{path}`" if path else "The file"
    rows = [
        f"| `{key}` | {_cell(_type(field.annotation, field.metadata))} | {_cell(_default(field))} | "
        f"{_cell(_meaning(field))} |"
        for key, field in _fields(section)
    ]
    table = "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])
    return f"\n## {title}\n\n{section.__doc__}\n\n{table}\n"


def _type(annotation: Any, metadata: list[Any]) -> str:
    unit = next((_UNITS[m.func] for m in metadata if isinstance(m, BeforeValidator)), None)
    if unit is not None:
        return unit + _bounds(metadata)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is list:
        return f"list of {_type(parts[0], [])}"
    if origin is dict:
        return f"{_type(parts[0], [])} → {_type(parts[1], [])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0], [*annotation.__metadata__, *metadata])
    if NoneType in parts:
        return " or ".join(_type(part, metadata) for part in parts if part is not NoneType)
    return _PLAIN[annotation]


def _bounds(metadata: list[Any]) -> str:
    low = next((m.ge for m in metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in metadata if hasattr(m, "le")), None)
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.default
    unit = _type(field.annotation, field.metadata)
    if value is None:
        return "–"
    if isinstance(value, BaseModel):
        return "its defaults"
    if unit == "duration":
        return f"`{duration_text(value)}`"
    if unit == "share":
        return f"`{value:g}`"
    if unit == "checks or duration":
        return "`1 check`"
    return f"`{_written(value)}`"


def _written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case list():
            return f"[{', '.join(map(_written, value))}]"
        case dict():
            return "{" + ", ".join(f"{name}: {_written(inner)}" for name, inner in value.items()) + "}"
        case _:
            return str(value)


def _meaning(field: FieldInfo) -> str:
    return (field.description or "") + ("" if field.repr else "; a secret")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# -- the metrics -----------------------------------------------------------------------------------------


def metrics() -> str:
    """Return the text of `metrics.md`."""
    rows = [
        f"| `{d.name}` | {d.kind} | {', '.join(f'`{label}`' for label in d.labels) or '–'} | {_cell(d.help)} |"
        for d in DECLARED
    ]
    table = "\n".join(["| name | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])
    return f"{METRICS_PAGE}{table}\n{_labels()}\n{_model_metrics()}"


def _labels() -> str:
    reasons = {
        "`driftd_dead_letters_total{reason}`": Refusal,
        "`driftd_alerts_total{kind}`": AlertKind,
        "`driftd_decisions_total{reason}`": Reason,
        "`driftd_destination_given_up_total{reason}`": GivenUp,
    }
    lines = [f"- {name}: {', '.join(f'`{member.value}`' for member in members)}" for name, members in reasons.items()]
    return "\n## Labels\n\n" + "\n".join(lines) + "\n"


def _model_metrics() -> str:
    """Return the table of the metrics of a version, which rules refer to."""
    rows = [
        f"| `{name}` | {info.better.value} | {'yes' if info.needs_outcomes else 'no'} | {_cell(info.help)} |"
        for name, info in METRICS.items()
    ]
    intro = (
        "\n## Metrics of a version\n\n"
        "`driftd_version_metric` exposes these metrics of the latest window, and your own; rules refer to them.\n\n"
    ).lstrip("\n")
    table = "\n".join(["| metric | better | needs outcomes | meaning |", "| --- | --- | --- | --- |", *rows])
    return f"{intro}{table}\n"


MADE: Final = {"configuration.md": configuration, "metrics.md": metrics}


def main() -> None:
    """Write the files beside this one."""
    for name, text in MADE.items():
        (HERE / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
