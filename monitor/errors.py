"""Every error that driftd raises on purpose.

    DriftdError
    ├── ConfigError          the configuration is wrong: says where, what it got and what would do
    │   └── ConfigErrors     several of them: a configuration is checked as a whole
    ├── InputFileError       a table or a profile cannot be read
    ├── BadEvent             one record is refused; it becomes a dead letter
    ├── StreamError          the source or the sink failed; `retryable` says whether waiting may help
    │   ├── OffsetGone       a position is no longer in the log
    │   ├── PartitionFault   one partition has bytes that the client cannot read
    │   └── TopicsMissing    topics are not there
    └── StoreError           the database failed; `retryable` says whether waiting may help
        ├── Fenced           another daemon owns the store now
        └── SchemaTooNew     a newer release wrote this

Foreign errors become ours in the module that imports the foreign library.
What is expected is a value, not an exception.
"""

from __future__ import annotations


class DriftdError(Exception):
    """The root: catching it catches everything that driftd raises on purpose."""


class ConfigError(DriftdError):
    """A value of the configuration cannot be used."""

    def __init__(self, path: str, got: object, hint: str) -> None:
        self.path, self.got, self.hint = path, got, hint
        super().__init__(f"{path}: {got!r}: {hint}" if got is not None else f"{path}: {hint}")


class ConfigErrors(ConfigError):
    """Everything that is wrong with a configuration."""

    def __init__(self, problems: list[ConfigError]) -> None:
        self.problems = problems
        first = problems[0]
        super().__init__(first.path, first.got, first.hint)
        self.args = ("\n".join(map(str, problems)),)


class InputFileError(DriftdError):
    """A file that the user named cannot be read as what it should be."""

    def __init__(self, path: str, detail: str) -> None:
        self.path, self.detail = path, detail
        super().__init__(f"{path}: {detail}")


class BadEvent(DriftdError):
    """A record is refused. `reason` is a member of `monitor.events.refusals.Refusal`."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class StreamError(DriftdError):
    """Reading or writing a stream failed."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)


class OffsetGone(StreamError):
    """The log no longer holds a position: retention passed it, or the log was truncated."""

    def __init__(self, topic: str, partition: int, position: int, earliest: int, latest: int) -> None:
        self.topic, self.partition, self.position = topic, partition, position
        self.earliest, self.latest = earliest, latest
        super().__init__(
            f"{topic}[{partition}]: offset {position} is not in the log, which holds {earliest} to {latest}",
            retryable=False,
        )


class PartitionFault(StreamError):
    """Bytes of one partition cannot be read: a bad checksum, an unknown codec."""

    def __init__(self, topic: str, partition: int, offset: int, detail: str) -> None:
        self.topic, self.partition, self.offset, self.detail = topic, partition, offset, detail
        super().__init__(f"{topic}[{partition}]: cannot read offset {offset}: {detail}", retryable=False)


class TopicsMissing(StreamError):
    """Topics that the configuration names do not exist."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        super().__init__(f"missing topics: {', '.join(topics)}; `driftd topics --create` makes them", retryable=True)


class MessageTooLarge(StreamError):
    """A message, or several of them in one batch, is more than its topic takes."""

    def __init__(self, topic: str, detail: str) -> None:
        self.topic = topic
        super().__init__(f"cannot publish to {topic}: {detail}; raise its max.message.bytes", retryable=False)


class StoreError(DriftdError):
    """The database failed."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)


class Fenced(StoreError):
    """Another daemon has claimed the store: what this one holds in memory is void."""

    def __init__(self, mine: int) -> None:
        self.mine = mine
        super().__init__(f"another daemon owns the store; epoch {mine} is over", retryable=False)


class SchemaTooNew(StoreError):
    """A newer release of driftd wrote this; an older one must not touch it."""

    def __init__(self, what: str, found: object, known: object) -> None:
        self.what, self.found, self.known = what, found, known
        super().__init__(
            f"{what} has schema {found}, this release knows {known}: install the newer release", retryable=False
        )
