"""The bench itself: without these, a relay that sends no valid token could pass every other scenario."""

from __future__ import annotations

from bench.bench import ALICE, BRIEF_DAEMON, DAEMON, ROBOT, Bench
from bench.direct import Session, access_token
from bench.messages import plain

from . import scenario


@scenario("the upstream offers LOGIN XOAUTH2 only inside TLS, and LOGIN never succeeds")
def offers(bench: Bench) -> None:
    with Session(bench) as session:
        assert session.offered_before_tls == set(), session.offered_before_tls
        assert session.offered == {"LOGIN", "XOAUTH2"}, session.offered
        assert session.login(ROBOT, "any password") == 535


@scenario("the upstream takes a token of 1,600 characters, from its user only")
def takes_tokens(bench: Bench) -> None:
    token = access_token(bench, DAEMON)
    assert len(token) == 1600, len(token)
    recipient = "direct@fabrikam.test"
    with Session(bench) as session:
        assert session.xoauth2(ROBOT, token) == 235
        assert session.send(ROBOT, recipient, plain().raw)[0] == 250
    bench.upstream.wait_for(recipient)
    with Session(bench) as session:
        assert session.xoauth2(ALICE, token) == 535
    with Session(bench) as session:
        assert session.xoauth2(ROBOT, token[:-1] + "~") == 535


@scenario("the upstream refuses a revoked and an expired token at once")
def refuses_dead_tokens(bench: Bench) -> None:
    revoked = access_token(bench, DAEMON)
    bench.authorization.revoke_access_tokens(DAEMON.id)
    with Session(bench) as session:
        assert session.xoauth2(ROBOT, revoked) == 535

    expired = access_token(bench, BRIEF_DAEMON)
    bench.authorization.wait_until_expired(BRIEF_DAEMON)
    with Session(bench) as session:
        assert session.xoauth2(ROBOT, expired) == 535


@scenario("the upstream refuses a foreign sender after the data")
def refuses_foreign_senders(bench: Bench) -> None:
    with Session(bench) as session:
        assert session.xoauth2(ROBOT, access_token(bench, DAEMON)) == 235
        code, text = session.send(ALICE, "direct@fabrikam.test", plain().raw)
        assert code == 554 and "SendAsDenied" in text, (code, text)
