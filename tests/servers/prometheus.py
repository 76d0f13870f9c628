"""A real Prometheus that scrapes one address every second."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.servers.debian import program
from tests.servers.kafka import free_ports


class Prometheus:
    """Scrapes `127.0.0.1:port` as the job `driftd`, and answers queries."""

    def __init__(self, directory: Path, port: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        jobs = [{"job_name": "driftd", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
        config = directory / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        (own,) = free_ports(1)
        self._url = f"http://127.0.0.1:{own}/api/v1/query"
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{own}",
                    f"--storage.tsdb.path={directory / 'data'}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query; empty while the server starts. Raises AssertionError where it is refused."""
        try:
            answer = httpx.get(self._url, params={"query": expression}, timeout=10)
        except httpx.TransportError:
            return []
        told = answer.json() if answer.headers["content-type"].startswith("application/json") else {}
        assert told.get("status") == "success", f"{expression}: {answer.text}"
        return list(told["data"]["result"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
