"""Where tokens come from, how they are renewed, and what happens without them."""

from __future__ import annotations

from bench.bench import (
    ALICE,
    DAEMON,
    DESKTOP,
    ROBOT,
    SCANNER,
    SHORT_LIVED,
    SHORT_LIVED_DAEMON,
    TELEVISION,
    Bench,
)
from bench.clients import Route, submit
from bench.configuration import Account
from bench.messages import assert_arrived, plain
from bench.process import wait_until
from bench.relay import Relay
from bench.replies import assert_delivered, assert_queued, is_queued, timed

from . import scenario


def _delivers(bench: Bench, relay: Relay, account: Account, recipient: str) -> None:
    """One message is answered with the verdict of the upstream, and arrives."""
    message = plain()
    assert_delivered(submit(Route(relay, account, encrypted=False), account.mailbox, recipient, message.raw))
    [arrived] = bench.upstream.wait_for(recipient)
    assert_arrived(arrived, message.expected)


def _let_access_tokens_expire(bench: Bench, account: Account) -> None:
    """Waits until the account's access tokens are worthless, and ends the upstream sessions opened with them."""
    bench.authorization.wait_until_expired(account.client)
    _end_upstream_sessions(bench)


def _end_upstream_sessions(bench: Bench) -> None:
    bench.upstream.gate.close()
    bench.upstream.gate.open()


@scenario("an account with client credentials fetches its token by itself")
def client_credentials(bench: Bench) -> None:
    account = Account(ROBOT, DAEMON)
    before = bench.authorization.grants(DAEMON.id)
    with Relay(bench, [account]) as relay:
        _delivers(bench, relay, account, "client-credentials@fabrikam.test")
        relay.check()
        assert ROBOT in str(relay.status()), relay.status()
    assert bench.authorization.grants(DAEMON.id) == [*before, "client_credentials"], "one token for one message"


@scenario("login completes authorization code with PKCE, without a person, and the mail flows")
def login(bench: Bench) -> None:
    account = Account(ALICE, DESKTOP)
    relay = Relay(bench, [account])
    relay.login(account)
    assert bench.authorization.grants(DESKTOP.id)[-1] == "authorization_code"
    with relay:
        _delivers(bench, relay, account, "login@fabrikam.test")


@scenario("login takes the pasted redirect URL where no browser can reach it")
def login_by_pasting(bench: Bench) -> None:
    account = Account(SCANNER, DESKTOP)
    relay = Relay(bench, [account])
    relay.login_by_pasting(account)
    with relay:
        _delivers(bench, relay, account, "login-pasted@fabrikam.test")


@scenario("login with a code that is typed on another device, and the mail flows")
def login_by_code(bench: Bench) -> None:
    account = Account(SCANNER, TELEVISION)
    relay = Relay(bench, [account])
    relay.login_by_code(account)
    with relay:
        _delivers(bench, relay, account, "login-code@fabrikam.test")
        # What came with the code is renewed like any other grant.
        bench.authorization.revoke_access_tokens(TELEVISION.id)
        _end_upstream_sessions(bench)
        _delivers(bench, relay, account, "login-code-renewed@fabrikam.test")
    assert bench.authorization.grants(TELEVISION.id)[-1] == "refresh_token"


@scenario("login refuses somebody else who signs in by name, and stores nothing")
def login_somebody_else(bench: Bench) -> None:
    account = Account(ALICE, DESKTOP)
    relay = Relay(bench, [account])
    printed = relay.login_refused(account, SCANNER)
    assert f"{SCANNER} signed in, and {ALICE} was to" in printed, printed
    assert _state(relay) == "needs sign-in", relay.status()
    relay.login(account)
    assert _state(relay) == "working", relay.status()


@scenario("after logout the running relay keeps the mail, and the refresh token is revoked")
def logout(bench: Bench) -> None:
    account = Account(ALICE, DESKTOP)
    recipient, message = "logout@fabrikam.test", plain()
    relay = Relay(bench, [account], confirm_within_seconds=2)
    relay.login(account)
    with relay:
        _delivers(bench, relay, account, "before-logout@fabrikam.test")
        assert "has revoked it" in relay.logout(account)
        route = Route(relay, account, encrypted=False)
        # Until the relay has noticed, which it promises within a second, mail is still delivered.
        noticing = "noticing-logout@fabrikam.test"
        wait_until("the logout is noticed", lambda: is_queued(submit(route, ALICE, noticing, plain().raw)), within=2)
        assert_queued(submit(route, ALICE, recipient, message.raw))
        assert bench.upstream.arrivals(recipient) == []
        relay.login(account)
        [arrived] = bench.upstream.wait_for(recipient)
        assert_arrived(arrived, message.expected)


def _state(relay: Relay) -> str:
    status = relay.status()
    assert isinstance(status, dict)
    state: str = status["accounts"][0]["state"]
    return state


@scenario("mail for an account that nobody has signed in is kept, and leaves after login")
def login_later(bench: Bench) -> None:
    account = Account(SCANNER, DESKTOP)
    recipient, message = "login-later@fabrikam.test", plain()
    with Relay(bench, [account], confirm_within_seconds=2) as relay:
        assert_queued(submit(Route(relay, account, encrypted=False), SCANNER, recipient, message.raw))
        assert bench.upstream.arrivals(recipient) == []
        relay.login(account)
        [arrived] = bench.upstream.wait_for(recipient)
        assert_arrived(arrived, message.expected)


@scenario("an expired access token is renewed by refresh token, and the mail flows")
def expiry(bench: Bench) -> None:
    account = Account(ALICE, SHORT_LIVED)
    relay = Relay(bench, [account])
    relay.login(account)
    with relay:
        _delivers(bench, relay, account, "expiry-before@fabrikam.test")
        _let_access_tokens_expire(bench, account)
        _delivers(bench, relay, account, "expiry-after@fabrikam.test")
    assert "refresh_token" in bench.authorization.grants(SHORT_LIVED.id)
    assert bench.authorization.refused_grants(SHORT_LIVED.id) == []


@scenario("a refresh token that rotates is renewed again and again, also across restarts")
def rotation(bench: Bench) -> str:
    account = Account(ALICE, DESKTOP)
    relay = Relay(bench, [account])
    relay.login(account)
    before = bench.authorization.grants(DESKTOP.id).count("refresh_token")
    starts = 4
    for start in range(starts):
        with relay:
            bench.authorization.revoke_access_tokens(DESKTOP.id)
            _delivers(bench, relay, account, f"rotation-{start}@fabrikam.test")
    renewals = bench.authorization.grants(DESKTOP.id).count("refresh_token") - before
    assert renewals == starts, f"{renewals} renewals for {starts} dead access tokens"
    # oidc-provider ends the whole grant when a refresh token comes twice: none of the rotated ones was lost.
    assert bench.authorization.refused_grants(DESKTOP.id) == []
    return f"{renewals} renewals"


@scenario("an access token that the upstream refuses before its time is renewed, and the mail is delivered")
def revoked(bench: Bench) -> None:
    account = Account(ROBOT, DAEMON)
    with Relay(bench, [account]) as relay:
        _delivers(bench, relay, account, "revoked-before@fabrikam.test")
        bench.authorization.revoke_access_tokens(DAEMON.id)
        _end_upstream_sessions(bench)
        _delivers(bench, relay, account, "revoked-after@fabrikam.test")


@scenario("token endpoint down, token valid: mail flows")
def endpoint_down_token_valid(bench: Bench) -> None:
    account = Account(ROBOT, DAEMON)
    with Relay(bench, [account]) as relay:
        _delivers(bench, relay, account, "endpoint-up@fabrikam.test")
        bench.authorization.gate.close()
        try:
            _end_upstream_sessions(bench)  # so that the token has to be shown again
            _delivers(bench, relay, account, "endpoint-down@fabrikam.test")
        finally:
            bench.authorization.gate.open()


@scenario("token endpoint down, token expired: confirm answers 250 queued, and the mail leaves when it is back")
def endpoint_down_token_expired(bench: Bench) -> None:
    account = Account(ROBOT, SHORT_LIVED_DAEMON)
    recipient, message = "endpoint-back@fabrikam.test", plain()
    with Relay(bench, [account], confirm_within_seconds=2) as relay:
        _delivers(bench, relay, account, "endpoint-before@fabrikam.test")
        bench.authorization.gate.close()
        try:
            _let_access_tokens_expire(bench, account)
            reply, seconds = timed(submit, Route(relay, account, encrypted=False), ROBOT, recipient, message.raw)
            assert_queued(reply)
            assert seconds < relay.confirm_within_seconds + 1, f"answered only after {seconds:.1f} s"
            assert bench.upstream.arrivals(recipient) == []
        finally:
            bench.authorization.gate.open()
        [arrived] = bench.upstream.wait_for(recipient, within=120)
        assert_arrived(arrived, message.expected)
