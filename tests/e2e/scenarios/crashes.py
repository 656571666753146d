"""A 250 is a promise, also for a daemon that is killed right after it."""

from __future__ import annotations

import os
import time

from bench.bench import DAEMON, ROBOT, Bench
from bench.clients import Route, submit
from bench.configuration import Account
from bench.messages import assert_arrived, plain
from bench.relay import Relay
from bench.replies import assert_queued

from . import scenario

ROUNDS = int(os.environ.get("MAILBEARER_E2E_KILL_ROUNDS", "100"))

# The kill comes this long after the 250, so that it falls before, into and after the attempt to deliver.
PAUSES = (0.0, 0.0, 0.005, 0.01, 0.02, 0.04)


@scenario(f"kill -9 after the 250 in queue mode, restart, delivered: {ROUNDS} rounds")
def kill_after_250(bench: Bench) -> str:
    account = Account(ROBOT, DAEMON, delivery="queue")
    relay = Relay(bench, [account])
    route = Route(relay, account, encrypted=False)
    messages = {f"kill-{number}@fabrikam.test": plain(f"Round {number}") for number in range(ROUNDS)}
    waited_for_restart, slowest = 0, 0.0
    relay.start()
    for number, (recipient, message) in enumerate(messages.items()):
        assert_queued(submit(route, ROBOT, recipient, message.raw))
        time.sleep(PAUSES[number % len(PAUSES)])
        relay.kill()
        waited_for_restart += not bench.upstream.arrivals(recipient)
        relay.start()
        restarted = time.monotonic()
        bench.upstream.wait_for(recipient, within=120)
        slowest = max(slowest, time.monotonic() - restarted)
    relay.stop()

    # Looked at only now, because a second copy comes later: of a message whose delivery was cut off before it was
    # written down. That may happen, and is counted; a lost or a changed one may not.
    twice = 0
    for recipient, message in messages.items():
        copies = bench.upstream.wait_for(recipient)
        for copy in copies:
            assert_arrived(copy, message.expected)
        twice += len(copies) > 1
    return (
        f"none lost, {twice} delivered twice, {waited_for_restart} only after the restart, "
        f"the slowest {slowest:.1f} s after it"
    )


@scenario("kill -9 while the upstream is down: every message of the queue survives")
def kill_during_outage(bench: Bench) -> str:
    account = Account(ROBOT, DAEMON, delivery="queue")
    relay = Relay(bench, [account])
    route = Route(relay, account, encrypted=False)
    messages = {f"kill-outage-{number}@fabrikam.test": plain(f"Message {number}") for number in range(20)}
    bench.upstream.gate.close()
    try:
        relay.start()
        for recipient, message in messages.items():
            assert_queued(submit(route, ROBOT, recipient, message.raw))
        relay.kill()
    finally:
        bench.upstream.gate.open()
    with relay:
        for recipient, message in messages.items():
            [arrived] = bench.upstream.wait_for(recipient, within=120)
            assert_arrived(arrived, message.expected)
    return f"{len(messages)} messages"
