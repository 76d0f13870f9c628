"""`driftd run`, `driftd replay`, `driftd demo`: the daemon, live and over recorded topics.

Shell.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from monitor.cli.options import CONFIG, ConfigOption, JsonOption, configuration, err, out, show_json
from monitor.cli.show import show_status
from monitor.times import format_time

LevelOption = Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]
FormatOption = Annotated[str, typer.Option("--log-format", help="json, text, or auto: text on a terminal, else json.")]
_TELL_EVERY_S: Final = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run")(run)
    app.command("replay")(replay)
    app.command("demo")(demo)


def run(
    config: ConfigOption = CONFIG,
    log_level: LevelOption = "INFO",
    log_format: FormatOption = "auto",
    startup_timeout: Annotated[
        float | None,
        typer.Option(
            help="Exit 75 if Kafka or the database is unavailable for this many seconds at the start; by default wait."
        ),
    ] = None,
    http_host: Annotated[
        str | None,
        typer.Option(
            envvar="DRIFTD_HTTP_HOST", help="Address of metrics and probes, where the configuration has no http.host."
        ),
    ] = None,
) -> int:
    """Run the daemon: watch the models of the configuration until SIGTERM.

    SIGTERM or Ctrl-C finishes the current batch, commits, publishes pending messages and exits 0; a second one exits at
    once. While Kafka or the database is unavailable the daemon waits, reports it at /-/ready, and loses nothing.
    """
    from monitor.service import app, logs

    logs.set_up(_level(log_level), _format(log_format))
    read = configuration(config)
    if http_host and "host" not in read.http.model_fields_set:
        read = read.model_copy(update={"http": read.http.model_copy(update={"host": http_host})})
    return app.run(read, startup_timeout_s=startup_timeout)


def replay(
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Directory for alerts, decisions and dead letters; by default that of a file: stream."
        ),
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish to Kafka; by default a replay of Kafka publishes nothing.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", help="Use this database instead of store.url; ${NAME} is a variable of the environment."
        ),
    ] = None,
    store_file: Annotated[
        Path | None, typer.Option("--store-file", help="File with the URL of the database, for one with a password.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use a temporary database, deleted afterwards.")] = False,
    log_level: LevelOption = "WARNING",
    log_format: FormatOption = "auto",
) -> None:
    """Process the recorded topics from beginning to end, and print a summary.

    Use it to try thresholds on recorded traffic. The store must be empty: give another one with --store, or use
    --fresh.
    """
    from monitor.config.build import secret_of
    from monitor.config.load import substituted
    from monitor.service import logs
    from monitor.service.app import parts
    from monitor.service.replay import replay as run_replay
    from monitor.service.replay import temporary_store
    from monitor.store.engine import is_in_memory

    if (store is not None) + (store_file is not None) + fresh > 1:
        raise typer.BadParameter("give only one of --store, --store-file and --fresh")
    if out_dir is not None and publish:
        raise typer.BadParameter("give either --out or --publish")
    logs.set_up(_level(log_level), _format(log_format))
    with contextlib.ExitStack() as stack:
        if fresh:
            url: str | None = stack.enter_context(temporary_store())
        elif store_file is not None:
            url = secret_of(store_file, "--store-file")
        else:
            url = None if store is None else substituted(store, "--store")
        p = parts(configuration(config), store_url=url)
        stack.callback(p.engine.dispose)
        if is_in_memory(p.engine.url):
            err.print("the database is in memory: history, alerts and decisions of this replay are lost when it ends")
        tell = stack.enter_context(_progress())
        summary: Mapping[str, Any] = run_replay(p, out=out_dir, publish=publish, progress=tell)
    if as_json:
        show_json(summary)
    else:
        show_status(out, summary)


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="An empty or new folder for topics, database and configuration; by default a temporary one."),
    ] = None,
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the daemon running at the end, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="HTTP port; any free one if it is taken.")] = 9464,
) -> int:
    """Demonstrate driftd in under a minute: real data, three versions of a model, no server.

    A feature drifts and is named in an alert, a canary fails and is rolled back, the champion fails, the fallback chain
    takes over, and the champion recovers. Exits 1 if one of these did not happen.
    """
    from monitor.demo.run import run as run_demo

    return run_demo(out, folder, keep_serving=keep_serving, port=port)


def _level(name: str) -> str:
    if name.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise typer.BadParameter(f"--log-level: {name}: not one of DEBUG, INFO, WARNING, ERROR")
    return name.upper()


def _format(name: str) -> Any:
    if name not in ("auto", "json", "text"):
        raise typer.BadParameter(f"--log-format: {name}: not one of auto, json, text")
    return name


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show progress on standard error: a bar on a terminal, else a line every few seconds."""
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("replaying")

            def move(seen: Any) -> None:
                where = f"replaying {format_time(seen.stream_time)}" if seen.stream_time >= 0 else "replaying"
                bar.update(task, completed=seen.records, total=seen.of, description=where)

            yield move
        return
    told_at = time.monotonic()

    def tell(seen: Any) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            err.print(f"replayed {seen.records} of {seen.of} records")

    yield tell
