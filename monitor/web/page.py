"""A status page for people: what is wrong first, with since when, how much and what to do.

Pure. Any value may come from an untrusted event, so all values are escaped, and the page has no scripts. It is one
column of cards, which fits a telephone. What fires has its words, never its colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import islice
from typing import Any, Final
from urllib.parse import quote_plus

from detectors.findings import Family
from monitor.pipeline.shown import features_of, renewal_words, traffic
from monitor.printable import printable
from monitor.reference.progress import ReferenceStatus
from monitor.times import format_time
from monitor.web.charts import feature_row

_STYLE: Final = """
:root{color-scheme:light dark;--text:#222;--page:#fff;--line:#ddd;--soft:#5c5c5c;--bad:#b00020;--fair:#8a5a00;
--good:#1b6e2c;--link:#0b57d0;--expected:#b3b3b3;--seen:#0072b2;--limit:#b34700}
@media(prefers-color-scheme:dark){:root{--text:#ddd;--page:#181818;--line:#3a3a3a;--soft:#a6a6a6;--bad:#ff8a94;
--fair:#f0b64d;--good:#7ccf8a;--link:#8ab4f8;--expected:#6e6e6e;--seen:#56b4e9;--limit:#ffa05c}}
body{font:15px/1.45 system-ui,sans-serif;margin:1rem auto;max-width:60rem;padding:0 1rem;color:var(--text);
background:var(--page);overflow-wrap:anywhere}a{color:var(--link)}
h1{font-size:1.3rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0 0 .2rem}p{margin:.15rem 0}
section{border:1px solid var(--line);border-left:.4rem solid var(--good);border-radius:.3rem;padding:.5rem .7rem;
margin:.6rem 0}section.bad{border-left-color:var(--bad)}section.fair{border-left-color:var(--fair)}
section.calm{padding:.15rem .7rem;margin:.2rem 0}section.calm h2{display:inline;font-size:1rem;margin-right:.5rem}
ul{margin:.2rem 0;padding-left:1.1rem}code{font-size:.9em}small{color:var(--soft)}
b.bad{color:var(--bad)}b.fair{color:var(--fair)}b.good{color:var(--good)}
div.feature{display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .8rem;margin:.35rem 0}
div.feature p{flex:1 1 12rem}svg{flex:none;overflow:visible}
.expected{fill:var(--expected)}.seen{fill:var(--seen)}.base{stroke:var(--line)}
.course{fill:none;stroke:var(--seen);stroke-width:1.5}.limit{stroke:var(--limit);stroke-dasharray:4 3}
"""
_CLASS: Final = {"healthy": "good", "degraded": "fair", "failed": "bad", "unknown": "fair"}
_SHOWN: Final = ("accuracy", "roc_auc", "mae", "error_rate", "latency_p95_ms", "coverage")
_RANK: Final = {"bad": 0, "fair": 1, "calm": 2}
_ALARMED: Final = 5  # features of a version that are drawn where an alert lists them
_LEGEND: Final = (
    "<p><small>bars: wide and pale what was expected, narrow and dark what was seen; line: effect of the latest "
    "windows, dashed its limit</small></p>"
)
_CHARTS: Final = 60  # features that are drawn on a page


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the daemon itself is doing.

    Attributes:
        stream_time: Stream time, ms since the epoch; 0 where it is not known.
        lag: Records that are not processed yet; None: unknown.
        commit_age_s: Seconds since the last commit.
    """

    stream_time: int = 0
    lag: float | None = None
    commit_age_s: float = 0.0


def render(
    status: Mapping[str, Any], ready: bool, why_not: str, vitals: Vitals | None = None, opened: str | None = None
) -> str:
    """Render the page as HTML.

    Args:
        status: The status document; empty before the first commit.
        ready: Whether the daemon is ready.
        why_not: Why it is not.
        vitals: How the daemon is doing.
        opened: The only model to show, with all its features that are followed; None for all models.
    """
    state = "<b class='good'>ready</b>" if ready else f"<b class='bad'>not ready: {_safe(why_not)}</b>"
    body = [f"<h1>driftd</h1><p>{state} · <a href='/metrics'>metrics</a> · <a href='/status'>status</a></p>"]
    if status:
        body += [_counts(status, vitals or Vitals()), *_troubles(status), *_cards(status["models"], opened)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>driftd</title>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<meta http-equiv='refresh' content='5'><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _cards(models: Mapping[str, Mapping[str, Any]], opened: str | None) -> Iterator[str]:
    """Yield the cards, the worst first, or that of one model with all that is known of it."""
    if opened is not None:
        yield "<p><a href='/'>all models</a></p>"
        if opened not in models:
            yield f"<p>no model is called {_safe(opened)}</p>"
            return
        models = {opened: models[opened]}
    left = _CHARTS
    for name, model in sorted(models.items(), key=lambda item: _RANK[_rank(item[1])]):
        card, drawn = _card(name, model, left, opened=opened is not None)
        left -= drawn
        yield card


def _safe(text: object) -> str:
    return escape(printable(str(text)))


# -- the daemon ------------------------------------------------------------------------------------------


def _counts(status: Mapping[str, Any], vitals: Vitals) -> str:
    events, join = status["events"], status["join"]
    time = format_time(vitals.stream_time) if vitals.stream_time > 0 else "unknown"
    lag = "unknown" if vitals.lag is None else f"{vitals.lag:.0f} records"
    return (
        f"<p>{status['alerts']['active']} alerts fire · stream time {time} · behind {lag} · "
        f"last commit {vitals.commit_age_s:.0f} s ago</p>"
        f"<p><small>read {events['read']}: {events['predictions']} predictions, {events['outcomes']} outcomes, "
        f"{events['dead_letters']} refused, {events['late_predictions']} late; joined {join['joined']}, "
        f"waiting {join['pending']}</small></p>"
    )


def _troubles(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the daemon itself has to tell: destinations that fail, events and values left out."""
    told = [
        f"{name}: {its['waiting']} messages wait, {its['last_error']}"
        for name, its in status.get("destinations", {}).items()
        if its["last_error"]
    ]
    ignored = status["events"].get("ignored", {})
    if ignored:
        names = ", ".join(f"{name} {count}" for name, count in list(ignored.items())[:5])
        told.append(f"events of models that are not configured: {names}")
    unusable = {model: sum(sum(r.values()) for r in its.values()) for model, its in status.get("unusable", {}).items()}
    if unusable:
        counts = ", ".join(f"{model} {count}" for model, count in unusable.items())
        told.append(f"values that cannot be used, by model: {counts}; /status has the fields and reasons")
    if told:
        yield f"<section class='fair'>{''.join(f'<p>{_safe(text)}</p>' for text in told)}</section>"


# -- a model ---------------------------------------------------------------------------------------------


def _card(name: str, model: Mapping[str, Any], charts: int, *, opened: bool) -> tuple[str, int]:
    """Return the card of a model, one line where nothing is wrong, and how many features of at most `charts` it has."""
    rank = _rank(model)
    link = "" if opened else f" <a href='/?model={quote_plus(name, errors='replace')}'>features</a>"
    head = f"<section class='{rank}'><h2>{_safe(name)}</h2>"
    if rank == "calm" and not opened:
        return f"{head}<small>{_summary(model)}</small>{link}</section>", 0
    features = list(islice(_features(model, opened=opened), max(charts, 0)))
    versions = "".join(f"<li>{_version(model, version, its)}</li>" for version, its in model["versions"].items())
    legend = [_LEGEND] if features else []
    parts = [*_told(model), *features, *legend, f"<ul>{versions}</ul>", _reference(model), link]
    return f"{head}{''.join(parts)}</section>", len(features)


def _features(model: Mapping[str, Any], *, opened: bool) -> Iterator[str]:
    """Yield the features that an alert lists, drawn; of a model that is opened all that are followed."""
    for version, its in model["versions"].items():
        listed = {*its["drifted"], *its["data_quality"]}
        if not (opened or listed):
            continue
        courses = sorted(features_of(its).items(), key=lambda item: (item[0] not in listed, -item[1].largest, item[0]))
        shown = courses if opened else [item for item in courses if item[0] in listed][:_ALARMED]
        for name, course in shown:
            kind = Family.DATA_QUALITY if name not in its["drifted"] and name in listed else Family.DRIFT
            yield feature_row(version, name, course, kind)


def _reference(model: Mapping[str, Any]) -> str:
    its = model["reference"]
    of = f" of at least {its['wanted']}" if its["wanted"] else ""
    since = f", since {its['since']}" if its["since"] else ""
    since += "" if its["number"] is None else f", number {its['number']} ({its['origin']})"
    renewed = renewal_words(its)
    told = f"{since}{f'; {renewed}' if renewed else ''}"
    return f"<p><small>reference {_safe(its['state'])}: {its['rows']}{of} rows{_safe(told)}</small></p>"


def _rank(model: Mapping[str, Any]) -> str:
    severities = {alert["severity"] for alert in model["alerts"]}
    failed = any(its["health"] == "failed" and its["role"] != "observed" for its in model["versions"].values())
    if "critical" in severities or failed or model["active_level"] != "primary":
        return "bad"
    unsure = any(its["health"] == "unknown" and its["role"] == "champion" for its in model["versions"].values())
    return "fair" if severities or model["notes"] or model["removed_at"] or unsure else "calm"


def _summary(model: Mapping[str, Any]) -> str:
    champion = model["versions"].get(model["champion"], {})
    seen = f"{champion.get('predictions', 0)} predictions, " if champion else ""
    return f"{_safe(model['champion'])}: {seen}{_safe(champion.get('health', 'unknown'))}"


def _told(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be known: who answers and why, what fires, what cannot be judged, and what to do."""
    level = model["active_level"]
    answers = f"tier {level}: champion {model['champion']} {traffic(model)}"
    if level != "primary":
        yield f"<p><b class='bad'>level {_safe(level)} ({_safe(model['answering'])}) answers</b></p>"
    if model["removed_at"]:
        yield f"<p><b class='fair'>removed from the configuration at {_safe(model['removed_at'])}</b></p>"
    previous = f" · previous {model['previous']}" if model["previous"] else ""
    by = f" by {model['by']}" if model["by"] else ""
    since = f", since {model['decided_at']}" if model["decided_at"] else ""
    yield f"<p>{_safe(answers + previous)} <small>({_safe(model['reason'] + by + since)})</small></p>"
    for alert in model["alerts"]:
        if alert["kind"] == "blind":
            continue  # below, in words
        severity = "bad" if alert["severity"] == "critical" else "fair"
        what = " ".join(str(part) for part in (alert["version"], alert["rule"] or "", alert["what"]) if part)
        yield (
            f"<p><b class='{severity}'>{_safe(alert['severity'])} {_safe(alert['kind'])}</b> {_safe(what)} "
            f"<small>since {_safe(alert['since'])}</small></p>"
        )
    for blind in model["blind"]:
        yield f"<p><b class='fair'>cannot be judged</b> {_safe(blind['version'])}: {_safe(blind['summary'])}</p>"
    if model["reference"]["state"] == ReferenceStatus.FREEZING:
        yield "<p><b class='fair'>reference: freezing</b> it is being made; checks wait and are made up then</p>"
    for note in model["notes"]:
        yield f"<p>note: {_safe(note)}</p>"
    if model["next"]:
        yield f"<p>what to do: <code>{_safe(model['next'])}</code></p>"


def _version(model: Mapping[str, Any], version: str, its: Mapping[str, Any]) -> str:
    share = model["routes"].get(version)
    shown = ", ".join(f"{m} {its['metrics'][m]:.4g}" for m in _SHOWN if m in its["metrics"])
    parts = [
        f"{its['role']}{'' if share is None else f' {share / 100:g} %'}", f"{its['predictions']} predictions",
        f"{its['outcomes']} with outcome", shown, f"promise {its['founded']}" if its["founded"] else "",
    ]  # fmt: skip
    health = f"<b class='{_CLASS.get(its['health'], 'fair')}'>{_safe(its['health'])}</b>"
    return f"{_safe(version)}: {health} · {_safe(' · '.join(part for part in parts if part))}"
