"""The exceptions that driftd raises.

    DriftdError
    ├── ConfigError          a configuration value is invalid: key, value found, what is accepted
    │   └── ConfigErrors     several of them: a configuration is validated as a whole
    ├── AddressTaken         another process listens on the configured address
    ├── InputFileError       a table or a profile cannot be read
    ├── StreamError          reading or writing a stream failed; `retryable` says whether a retry may succeed
    │   ├── OffsetGone       a position is no longer in the log
    │   ├── PartitionFault   the client cannot decode bytes of one partition
    │   ├── TopicsMissing    configured topics do not exist
    │   └── MessageTooLarge  a message exceeds the size limit of its topic
    └── StoreError           the database failed; `retryable` says whether a retry may succeed
        ├── Fenced           another daemon owns the store now
        └── SchemaTooNew     a newer release wrote the data

Exceptions of a library are translated in the module that imports the library.
An expected result is a return value, not an exception.
"""

from __future__ import annotations


class DriftdError(Exception):
    """The base class of all exceptions that driftd raises."""


class ConfigError(DriftdError):
    """A configuration value is invalid.

    Attributes:
        path: Key, file or command-line option, such as `models.heat.window.pane`.
        got: The value found; None where there is none, or where it must not be shown.
        hint: What is accepted instead.
    """

    def __init__(self, path: str, got: object, hint: str) -> None:
        self.path, self.got, self.hint = path, got, hint
        super().__init__(f"{path}: {got!r}: {hint}" if got is not None else f"{path}: {hint}")


class ConfigErrors(ConfigError):
    """All errors of one configuration; the first one gives `path`, `got` and `hint`."""

    def __init__(self, problems: list[ConfigError]) -> None:
        self.problems = problems
        first = problems[0]
        super().__init__(first.path, first.got, first.hint)
        self.args = ("\n".join(map(str, problems)),)


class AddressTaken(DriftdError):
    """Another process listens where the HTTP server is to listen."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        hint = "another process listens there; end it, or choose another port"
        super().__init__(f"http.port: {host}:{port}: {hint}")


class InputFileError(DriftdError):
    """A file given by the user cannot be read in the expected format."""

    def __init__(self, path: str, detail: str) -> None:
        self.path, self.detail = path, detail
        super().__init__(f"{path}: {detail}")


class StreamError(DriftdError):
    """Reading or writing a stream failed; `retryable` says whether a retry may succeed."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)


class OffsetGone(StreamError):
    """A position is outside the log: removed by retention, or the log was truncated.

    `earliest` is the first offset held, `latest` the offset after the last one.
    """

    def __init__(self, topic: str, partition: int, position: int, earliest: int, latest: int) -> None:
        self.topic, self.partition, self.position = topic, partition, position
        self.earliest, self.latest = earliest, latest
        super().__init__(
            f"{topic}[{partition}]: offset {position} is not in the log, which holds {earliest} to {latest}",
            retryable=False,
        )


class PartitionFault(StreamError):
    """The client cannot decode bytes of one partition, such as a bad checksum or an unknown codec.

    `behind` is the offset of the first record behind them, None where nobody knows.
    """

    def __init__(self, topic: str, partition: int, offset: int, detail: str, behind: int | None = None) -> None:
        self.topic, self.partition, self.offset, self.detail = topic, partition, offset, detail
        self.behind = behind
        super().__init__(f"{topic}[{partition}]: cannot read offset {offset}: {detail}", retryable=False)


class TopicsMissing(StreamError):
    """Configured topics do not exist."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        super().__init__(f"missing topics: {', '.join(topics)}; `driftd topics --create` makes them", retryable=True)


class MessageTooLarge(StreamError):
    """A message, or a batch of messages, exceeds the size limit of its topic."""

    def __init__(self, topic: str, detail: str) -> None:
        self.topic = topic
        super().__init__(f"cannot publish to {topic}: {detail}; raise its max.message.bytes", retryable=False)


class StoreError(DriftdError):
    """The database failed; `retryable` says whether a retry may succeed."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)


class Fenced(StoreError):
    """Another daemon has claimed the store: the state this one holds in memory is void."""

    def __init__(self, mine: int) -> None:
        self.mine = mine
        super().__init__(f"another daemon owns the store; epoch {mine} is over", retryable=False)


class SchemaTooNew(StoreError):
    """A newer release of driftd wrote the data; this one must not change it."""

    def __init__(self, what: str, found: object, known: object) -> None:
        self.what, self.found, self.known = what, found, known
        super().__init__(
            f"{what} has schema {found}, this release knows {known}: install the newer release", retryable=False
        )
