"""Imported by the fork server, so that the processes it makes have imported the daemon already.

Importing takes two seconds of a core, and a suite that kills daemons starts many.
"""

from __future__ import annotations

import os

# Before numpy: threads that wait in a server of forks are of no use to anybody.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from monitor.cli.commands import COMMANDS, load

for name in COMMANDS:
    load(name)
