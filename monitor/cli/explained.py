"""An explanation for people, as tables.

Shell only in that it prints. Names come from events and files, so they are escaped: none is markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from detectors.sensitivity import SHIFTS
from monitor.cli.options import escape
from monitor.evaluation.foundation import KEPT
from monitor.evaluation.rule_checks import STRETCHES

_STRETCHES: Final = (1, *STRETCHES)  # windows of which it is told what a rule finds in them
_DECIDED: Final = {"min_effect": "minimum effect", "budget": "budget"}
_WHY: Final = {
    "no_data": "not judged: no window had the metric",
    "too_few": "not judged: fewer events in the window than min_n",
    "no_baseline": "not judged yet: no baseline",
    "no_events": "not judged: no value comes",
    "no_reference": "not judged: no value in the reference",
    "rare": "not judged: nearly all categories are too rare",
    "blind": "blind in every window",
}


def show_explanation(console: Console, document: Mapping[str, Any], most: int) -> None:
    """Print an explanation.

    Args:
        console: Where to.
        document: The document of `monitor.evaluation.explanation`.
        most: Number of features to print at most.
    """
    watched = "" if document["drift"] else "; drift is not checked"
    promise = document["no_promise"] or f"promised: {_promise(document['budget'])}{watched}"
    console.print(f"[bold]{escape(document['model'])}[/bold]: window {document['window']}; {promise}")
    if document["as_of"]:
        console.print(f"as of {document['as_of']}, stream time")
    else:
        console.print("of the configuration and its reference: nothing was committed yet")
    for out in document["windows_left_out"]:
        console.print(f"note: {out['multiple']:g} times the window is left out: {escape(out['why'])}")
    for name, version in document["versions"].items():
        _show_version(console, name, version, most)


def _promise(budget: Mapping[str, Any]) -> str:
    alarms = f"{budget['alarms']:g} false alarm{'' if budget['alarms'] == 1 else 's'}"
    return f"{alarms} in {budget['events']:,} events" if budget["events"] else f"{alarms} in {budget['per']}"


def _show_version(console: Console, name: str, version: Mapping[str, Any], most: int) -> None:
    console.print(f"\n[bold]{escape(name)}[/bold] ({version['role']}){_founded(version['founded'])}")
    for reason in version["reasons"]:
        console.print(f"  {escape(reason)}")
    parts = version["parts"]
    whole = sum(parts.values())
    if whole > 0 and version["founded"] is not None:
        shown = ", ".join(
            f"{part.replace('quality', 'data quality')} {r / whole:.0%}" for part, r in parts.items() if r
        )
        console.print(f"one false alarm in {1 / whole:,.0f} checks: {shown}")
    if version["windows"]:
        console.print(_windows(version["windows"]))
    if version["features"]:
        console.print(_features(version["features"], most))
        left = len(version["features"]) - most
        if left > 0:
            console.print(f"and {left} more features: --features {len(version['features'])}, or --json")
        console.print("[dim]in the columns of shifts: events until a shift of the mean by so much is found[/]")
    if version["rules"]:
        console.print(_rules(version["rules"]))
        console.print("[dim]in the columns of windows: the smallest change that is found, and after how many events[/]")


def _founded(state: str | None) -> str:
    if state is None:
        return ""
    return f": the promise is [green]{state}[/]" if state == KEPT else f": the promise is [yellow]{state}[/], because"


def _table(*heads: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left")
    return table


def _windows(windows: Sequence[Mapping[str, Any]]) -> Table:
    right = ("events", "looks at it", "tests of drift", "a false alarm of each in", "of quality", "of each in")
    table = _table("window", *right, right=right)
    for w in windows:
        looks = "every check" if w["looks_every"] == 1 else f"every {w['looks_every']} checks"
        table.add_row(
            escape(w["window"]), f"{w['events']:,}", looks, str(w["shares"]["drift"]),
            _looks(w["per_share"]["drift"]), str(w["shares"]["quality"]), _looks(w["per_share"]["quality"]),
        )  # fmt: skip
    return table


def _looks(rate: float) -> str:
    return f"{1 / rate:,.0f} looks" if rate > 0 else ""


def _features(features: Mapping[str, Any], most: int) -> Table:
    shifts = [f"{shift:g}" for shift in SHIFTS]
    heads = [f"{shift} sd" for shift in shifts]
    table = _table(
        "feature", "smallest change found", "decided by", "first in", "after", *heads, "blind in",
        right=("after", *heads),
    )  # fmt: skip
    for name, feature in list(features.items())[:most]:
        until = [f"{feature['shifts'][s]['events']:,}" if s in feature["shifts"] else "" for s in shifts]
        blind = ", ".join(feature["blind"])
        if not feature["smallest"]:
            table.add_row(escape(name), _nothing(feature), "", "", "", *until, escape(blind))
        told = escape(name)
        for change in feature["smallest"]:
            decided, events = _DECIDED[change["decided_by"]], f"{change['events']:,}"
            table.add_row(told, _change(change), decided, escape(change["window"]), events, *until, escape(blind))
            told, until, blind = "", [""] * len(shifts), ""
    return table


def _nothing(feature: Mapping[str, Any]) -> str:
    windows = feature["windows"]
    if any(w["constant"] for w in windows):
        return "any other value: it has only one"
    skipped = [w["skipped"] for w in windows]
    why = _WHY.get(skipped[-1], "nothing") if all(skipped) else "nothing that windows could show"
    needed = feature["sees_from"]
    return f"{why}; one of {needed:,} events would see" if needed else why


def _change(change: Mapping[str, Any]) -> str:
    if change["kind"] != "category":
        return f"mean by {change['size']:.2g} sd{' (values tie)' if change['kind'] == 'tilt' else ''}"
    share, size = change["share"], change["size"] * (1 if change["rises"] else -1)
    name = change["category"]
    what = escape(name) if name is not None else "a rare category" if change["rises"] else "all rare categories"
    return f"{what} {share:.2%} → {share + size:.2%}"


def _rules(rules: Sequence[Mapping[str, Any]]) -> Table:
    spans = [f"{many} window{'s' if many > 1 else ''}" for many in _STRETCHES]
    table = _table("rule", "metric", "now", "baseline", "limit", "overdispersion", *spans, "")
    for rule in rules:
        finds = {find["windows"]: find for find in rule["finds"]}
        share = rule["finds_share_above"]
        cells = [_find(finds[many], share=share) if many in finds else "" for many in _STRETCHES]
        note = _WHY[rule["why_not"]] if rule["why_not"] else ""
        if rule["hard"]:
            note = "hard: the value alone decides, without any promise"
        table.add_row(
            escape(rule["name"]), escape(rule["metric"]), _number(rule["value"]), _number(rule["baseline"]),
            _number(rule["limit"]), _dependence(rule["dependence"]), *cells, note,
        )  # fmt: skip
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _dependence(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["supposed"]:
        return f"{found['phi']:.3g} supposed, {found['panes_telling']}/{found['panes_needed']} panes"
    return f"{found['phi']:.3g} from {found['panes']} panes"


def _find(find: Mapping[str, Any], *, share: bool) -> str:
    if find["value"] is None:
        return "nothing"
    value = f"{find['value']:.1%} above" if share else f"{find['value']:.4g}"
    return f"{value} after {find['events']:,}{' (limit)' if find['decided_by'] == 'limit' else ''}"
