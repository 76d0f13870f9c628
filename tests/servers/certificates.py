"""Certificates for tests of TLS, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

IS_POSSIBLE = shutil.which("openssl") is not None

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificates:
    """An authority, and what it has signed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self.authority = directory / "authority.pem"
        files = ("-keyout", "authority.key", "-out", "authority.pem")
        self._openssl("req", "-x509", *NEW_KEY, *files, "-subj", "/CN=test")
        (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")

    def sign(self, name: str) -> Path:
        """A file with a key and the certificate for it."""
        self._openssl("req", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.request", "-subj", f"/CN={name}")
        by_us = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{name}.request", "-out", f"{name}.certificate", *by_us)
        both = self._directory / f"{name}.pem"
        parts = [self._directory / f"{name}.{part}" for part in ("key", "certificate")]
        both.write_text("".join(part.read_text() for part in parts))
        return both

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
