"""A status page for people: what is wrong first, with since when, how much and what to do.

Pure. Any value may come from an untrusted event, so all values are escaped, and the page has no scripts. It is one
column of cards, which fits a telephone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from shlex import quote
from typing import Any, Final

from monitor.printable import printable
from monitor.times import format_time

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:1rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff;
overflow-wrap:anywhere}
h1{font-size:1.3rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0 0 .2rem}p{margin:.15rem 0}
section{border:1px solid #ddd;border-left:.4rem solid #1b6e2c;border-radius:.3rem;padding:.5rem .7rem;margin:.6rem 0}
section.bad{border-left-color:#b00020}section.fair{border-left-color:#b87a00}
section.calm{padding:.15rem .7rem;margin:.2rem 0}section.calm h2{display:inline;font-size:1rem;margin-right:.5rem}
ul{margin:.2rem 0;padding-left:1.1rem}code{font-size:.9em}small{color:#666}
.bad b,b.bad{color:#b00020}.fair b.fair,b.fair{color:#8a5a00}b.good{color:#1b6e2c}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}section{border-color:#333}small{color:#999}}
"""
_CLASS: Final = {"healthy": "good", "degraded": "fair", "failed": "bad", "unknown": "fair"}
_SHOWN: Final = ("accuracy", "roc_auc", "mae", "error_rate", "latency_p95_ms", "coverage")
_RANK: Final = {"bad": 0, "fair": 1, "calm": 2}


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


def render(status: Mapping[str, Any], ready: bool, why_not: str, vitals: Vitals | None = None) -> str:
    """Render the page as HTML.

    Args:
        status: The status document; empty before the first commit.
        ready: Whether the daemon is ready.
        why_not: Why it is not.
        vitals: How the daemon is doing.
    """
    state = "<b class='good'>ready</b>" if ready else f"<b class='bad'>not ready: {_safe(why_not)}</b>"
    body = [f"<h1>driftd</h1><p>{state} · <a href='/metrics'>metrics</a> · <a href='/status'>status</a></p>"]
    if status:
        cards = sorted((_card(name, model) for name, model in status["models"].items()), key=lambda c: _RANK[c[0]])
        body += [_counts(status, vitals or Vitals()), *_troubles(status), *(card for _, card in cards)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>driftd</title>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<meta http-equiv='refresh' content='5'><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


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


def _card(name: str, model: Mapping[str, Any]) -> tuple[str, str]:
    """Return how bad it is, and the card of a model: one line where nothing is wrong."""
    rank = _rank(model)
    body = "".join(_told(name, model)) if rank != "calm" else ""
    versions = "".join(f"<li>{_version(model, version, its)}</li>" for version, its in model["versions"].items())
    body += f"<ul>{versions}</ul>" if rank != "calm" else f"<small>{_summary(model)}</small>"
    return rank, f"<section class='{rank}'><h2>{_safe(name)}</h2>{body}</section>"


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


def _told(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be known: who answers and why, what fires, what cannot be judged, and what to do."""
    routes = "".join(f", {version} {weight / 100:g} %" for version, weight in model["routes"].items())
    level = model["active_level"]
    answers = f"champion {model['champion']}{routes}"
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
            f"<p><b class='{severity}'>{_safe(alert['kind'])}</b> {_safe(what)} "
            f"<small>since {_safe(alert['since'])}</small></p>"
        )
    for blind in model["blind"]:
        yield f"<p><b class='fair'>cannot be judged</b> {_safe(blind['version'])}: {_safe(blind['summary'])}</p>"
    for note in model["notes"]:
        yield f"<p>note: {_safe(note)}</p>"
    command = _what_to_do(name, model)
    if command:
        yield f"<p>what to do: <code>{_safe(command)}</code></p>"


def _what_to_do(name: str, model: Mapping[str, Any]) -> str:
    """Return the command that a person would look at first."""
    model_name = quote(name)
    if model["active_level"] != "primary" or any(alert["kind"] == "rollback" for alert in model["alerts"]):
        return f"driftd recover {model_name} --reason '…'"
    champion = model["versions"].get(model["champion"], {})
    if champion.get("health") == "failed" and model["previous"]:
        return f"driftd rollback {model_name} --to {quote(model['previous'])} --reason '…'"
    if any(alert["kind"] in ("drift", "data_quality") for alert in model["alerts"]):
        return f"driftd history {model_name} --last 20"
    return f"driftd alerts {model_name}" if model["alerts"] else ""


def _version(model: Mapping[str, Any], version: str, its: Mapping[str, Any]) -> str:
    share = model["routes"].get(version)
    shown = ", ".join(f"{m} {its['metrics'][m]:.4g}" for m in _SHOWN if m in its["metrics"])
    parts = [
        f"{its['role']}{'' if share is None else f' {share / 100:g} %'}", f"{its['predictions']} predictions",
        f"{its['outcomes']} with outcome", shown,
    ]  # fmt: skip
    health = f"<b class='{_CLASS.get(its['health'], 'fair')}'>{_safe(its['health'])}</b>"
    return f"{_safe(version)}: {health} · {_safe(' · '.join(part for part in parts if part))}"
