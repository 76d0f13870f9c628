"""A status page for people: models, versions, health and firing alerts.

Pure. Any value may come from an untrusted event, so all values are escaped, and the page has no scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd}
.bad{color:#b00020;font-weight:600}.fair{color:#8a5a00;font-weight:600}.good{color:#1b6e2c}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#333}}
"""
_CLASS: Final = {"healthy": "good", "degraded": "fair", "failed": "bad"}


def render(status: Mapping[str, Any], ready: bool, why_not: str) -> str:
    """Render the page as HTML.

    Args:
        status: The status document; empty before the first commit.
        ready: Whether the daemon is ready.
        why_not: Why it is not.
    """
    state = '<span class="good">ready</span>' if ready else f'<span class="bad">not ready: {escape(why_not)}</span>'
    body = [f"<h1>driftd</h1><p>{state} · <a href='/metrics'>metrics</a> · <a href='/status'>status</a></p>"]
    if status:
        events, join = status["events"], status["join"]
        body.append(_table(("read", "predictions", "outcomes", "joined", "waiting", "late", "dead letters"), [(
            events["read"], events["predictions"], events["outcomes"], join["joined"], join["pending"], join["late"],
            events["dead_letters"],
        )]))  # fmt: skip
        body += [_model(name, model) for name, model in status["models"].items()]
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>driftd</title>"
        f"<meta http-equiv='refresh' content='5'><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _model(name: str, model: Mapping[str, Any]) -> str:
    level = model["active_level"]
    where = "" if level == "primary" else f" · <span class='bad'>level {escape(level)} answers</span>"
    if model["removed_at"]:
        where += f" · <span class='fair'>removed from the configuration at {escape(model['removed_at'])}</span>"
    rows = []
    for version, v in model["versions"].items():
        health = f"<span class='{_CLASS.get(v['health'], '')}'>{escape(v['health'])}</span>"
        trouble = [*v["firing"], *(f"drift: {f}" for f in v["drifted"]), *(f"quality: {f}" for f in v["data_quality"])]
        shown = ", ".join(f"{m} {v['metrics'][m]:.4g}" for m in _SHOWN if m in v["metrics"])
        rows.append(
            (
                escape(version),
                escape(v["role"]),
                health,
                v["predictions"],
                v["outcomes"],
                escape(shown),
                escape(", ".join(trouble)),
            )
        )
    head = ("version", "role", "health", "predictions", "outcomes", "latest window", "fires")
    title = f"<h2>{escape(name)}</h2><p>champion {escape(str(model['champion']))}{where}</p>"
    blind = (f"cannot be judged: {b['version']}: {b['summary']} (since {b['since']})" for b in model["blind"])
    told = [f"<p class='fair'>{escape(text)}</p>" for text in blind]
    told += [f"<p>note: {escape(note)}</p>" for note in model["notes"]]
    return title + "".join(told) + _table(head, rows)


_SHOWN: Final = ("accuracy", "roc_auc", "mae", "error_rate", "latency_p95_ms")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Render a table; cells are numbers, or escaped already."""
    cells = "".join(f"<th>{h}</th>" for h in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
