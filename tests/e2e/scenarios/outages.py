"""The upstream is down, or crowded: the clients do not notice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.bench import DAEMON, ROBOT, Bench
from bench.clients import Route, submit
from bench.configuration import Account
from bench.messages import Message, assert_arrived, awkward, plain
from bench.process import LOOPBACK
from bench.relay import Relay
from bench.replies import assert_delivered, assert_queued, timed
from bench.upstream import MAX_SESSIONS

from . import scenario


@scenario("upstream down: queue-mode clients notice nothing, and everything arrives afterwards")
def outage_in_queue_mode(bench: Bench) -> str:
    account = Account(ROBOT, DAEMON, delivery="queue")
    messages = {f"outage-{number}@fabrikam.test": message for number, message in enumerate(awkward())}
    bench.upstream.gate.close()
    try:
        with Relay(bench, [account]) as relay:
            slowest = 0.0
            for recipient, message in messages.items():
                reply, seconds = timed(submit, Route(relay, account, encrypted=False), ROBOT, recipient, message.raw)
                assert_queued(reply)
                slowest = max(slowest, seconds)
            assert not any(bench.upstream.arrivals(recipient) for recipient in messages)
            assert slowest < 2, f"a client waited {slowest:.1f} s"
            bench.upstream.gate.open()
            _all_arrive(bench, messages)
    finally:
        bench.upstream.gate.open()
    return f"slowest reply {slowest * 1000:.0f} ms"


@scenario("upstream down: confirm mode answers 250 queued, and the mail arrives afterwards")
def outage_in_confirm_mode(bench: Bench) -> None:
    account = Account(ROBOT, DAEMON)
    recipient, message = "outage-confirm@fabrikam.test", plain()
    bench.upstream.gate.close()
    try:
        with Relay(bench, [account], confirm_within_seconds=2) as relay:
            reply, seconds = timed(submit, Route(relay, account, encrypted=False), ROBOT, recipient, message.raw)
            assert_queued(reply)
            assert seconds < relay.confirm_within_seconds + 1, f"answered only after {seconds:.1f} s"
            bench.upstream.gate.open()
            _all_arrive(bench, {recipient: message})
    finally:
        bench.upstream.gate.open()


@scenario("an upstream whose certificate has another name gets nothing, and the mail is kept")
def wrong_certificate_name(bench: Bench) -> None:
    account = Account(ROBOT, DAEMON)
    recipient = "wrong-name@fabrikam.test"
    # The certificate is for `localhost`, and for no other name.
    with Relay(bench, [account], confirm_within_seconds=2, upstream_host=LOOPBACK) as relay:
        assert_queued(submit(Route(relay, account, encrypted=False), ROBOT, recipient, plain().raw))
    assert bench.upstream.arrivals(recipient) == []


@scenario("a crowd of clients never opens more upstream sessions than the provider allows")
def crowd(bench: Bench) -> str:
    account = Account(ROBOT, DAEMON)
    messages = {f"crowd-{number}@fabrikam.test": plain() for number in range(40)}
    bench.upstream.gate.peak = 0
    with Relay(bench, [account]) as relay, ThreadPoolExecutor(20) as clients:
        route = Route(relay, account, encrypted=False)
        replies = clients.map(lambda item: submit(route, ROBOT, item[0], item[1].raw), messages.items())
        for reply in replies:
            assert_delivered(reply)
        _all_arrive(bench, messages)
    assert bench.upstream.gate.peak <= MAX_SESSIONS, f"{bench.upstream.gate.peak} sessions at once"
    return f"{len(messages)} messages, {bench.upstream.gate.peak} sessions at most"


def _all_arrive(bench: Bench, messages: dict[str, Message]) -> None:
    for recipient, message in messages.items():
        [arrived] = bench.upstream.wait_for(recipient, within=120)
        assert_arrived(arrived, message.expected)
