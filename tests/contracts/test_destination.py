"""What every `Destination` promises, held against the stream and webhooks."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from monitor.publishing.destinations.base import Delivered, Retry
from monitor.store.subscriptions import MessageKind
from tests.contracts.destinations import ENDS, End, alert

NOW = 1_800_000_000_000


@pytest.fixture(params=list(ENDS))
def end(request: pytest.FixtureRequest) -> End:
    """Each of the destinations that there are."""
    return ENDS[request.param](request)


def test_it_says_who_it_is_and_how_it_wants_to_be_treated(end: End) -> None:
    destination = end.destination()

    assert destination.name
    assert MessageKind.ALERT in destination.kinds
    assert destination.policy.batch >= 1
    assert list(destination.policy.backoff_s) == sorted(destination.policy.backoff_s) != []


def test_messages_are_there_in_order_when_it_returns(end: End) -> None:
    with closing(end.destination()) as destination:
        for _ in range(2):
            start = len(end.numbers())
            assert destination.deliver([alert(n) for n in range(start, start + 20)], NOW) == Delivered()
            assert end.numbers() == list(range(start + 20))


def test_nothing_to_deliver_is_delivered_without_asking_anybody(end: End) -> None:
    with closing(end.destination()) as destination, end.outage():
        assert destination.deliver([], NOW) == Delivered()


def test_an_outage_is_a_result_and_the_next_delivery_begins_anew(end: End) -> None:
    """Some messages may be there twice then, with the same identity."""
    with closing(end.destination()) as destination:
        destination.deliver([alert(0)], NOW)
        with end.outage():
            for _ in range(2):
                result = destination.deliver([alert(1), alert(2)], NOW)
                assert isinstance(result, Retry)
                assert result.why
        assert destination.deliver([alert(1), alert(2)], NOW) == Delivered()

    assert list(dict.fromkeys(end.numbers())) == [0, 1, 2]


def test_after_closing_it_can_be_used_again(end: End) -> None:
    """The relay closes it after every failure."""
    destination = end.destination()
    destination.close()
    assert destination.deliver([alert(0)], NOW) == Delivered()
    destination.close()
    destination.close()
    assert destination.deliver([alert(1)], NOW) == Delivered()
    destination.close()

    assert end.numbers() == [0, 1]


def test_closing_is_quick_during_an_outage(end: End) -> None:
    destination = end.destination()
    destination.deliver([alert(0)], NOW)
    with end.outage():
        started = time.monotonic()
        destination.close()
        assert time.monotonic() - started < 5
