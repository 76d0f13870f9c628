"""The process that makes references for a daemon: requests come in, references go out, until no more come.

Shell. Whoever starts it is not held up, and is as large afterwards as before. It ends when its input does: with the
process that has started it, whatever ends that.

    python -m monitor.reference.freezing_process < requests > references
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Final

from monitor.reference.freezing import freeze

FRAME: Final = struct.Struct("<Q")  # length of a request or of a reference, which follows
_NICENESS: Final = 5  # whoever waits for the stream comes first


def main() -> int:
    """Answer requests, and return the exit code."""
    os.nice(_NICENESS)
    requests, references = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(FRAME.size)) == FRAME.size:
        made = freeze(requests.read(*FRAME.unpack(head))).to_bytes()
        references.write(FRAME.pack(len(made)) + made)
        references.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
