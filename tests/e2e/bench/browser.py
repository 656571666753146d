"""A person at a browser, as far as a sign-in needs one: follows redirects, keeps cookies, presses a button."""

from __future__ import annotations

import http.cookiejar
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO
from urllib.request import Request


@dataclass(frozen=True)
class Page:
    """What the address bar and the window show."""

    url: str
    text: str


def sign_in(start: str, mailbox: str, tls: ssl.SSLContext, follow_to_loopback: bool = True) -> Page:
    """Opens the address that `mailbearer login` prints, signs in as `mailbox`, and ends where the redirects end.

    That is the page of mailbearer's loopback address, or, without `follow_to_loopback`, an empty page with that
    address: what a browser on another machine shows. A sign-in page that has buttons gets the one with this mailbox
    pressed; a server that was told the mailbox by `login_hint` shows no such page.
    """
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        urllib.request.ProxyHandler({}),
        *([] if follow_to_loopback else [_StopAtLoopback()]),
    )
    page = _open(opener, start)
    if button := re.search(rf'<button name="(\w+)" value="{re.escape(mailbox)}"', page.text):
        page = _open(opener, f"{page.url}?{urllib.parse.urlencode({button.group(1): mailbox})}")
    return page


def enter_code(page: str, code: str, mailbox: str, tls: ssl.SSLContext) -> Page:
    """Types the code that `mailbearer login` shows into the provider's page, confirms it, and signs in as `mailbox`."""
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        urllib.request.ProxyHandler({}),
    )
    asked = _submit(opener, _open(opener, page), user_code=code)
    confirmed = _submit(opener, asked)
    pressed = urllib.parse.urlencode({"mailbox": mailbox})
    return _open(opener, f"{confirmed.url}?{pressed}")


def _submit(opener: urllib.request.OpenerDirector, page: Page, **typed: str) -> Page:
    """Posts the page's form: what it holds already, and what was typed."""
    action = re.search(r'<form [^>]*action="([^"]+)"', page.text)
    assert action, page.text
    held = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    form = urllib.parse.urlencode({**held, **typed}).encode()
    return _open(opener, urllib.parse.urljoin(page.url, action.group(1)), form)


def _open(opener: urllib.request.OpenerDirector, url: str, form: bytes | None = None) -> Page:
    try:
        with opener.open(url, form, timeout=30) as answer:
            return Page(answer.geturl(), answer.read().decode())
    except _Unreachable as end:
        return Page(end.url, "")
    except urllib.error.HTTPError as refusal:
        raise AssertionError(f"{refusal.geturl()} answered {refusal.code}: {refusal.read().decode()}") from None


class _Unreachable(Exception):
    """A redirect to an address that this browser cannot reach."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _StopAtLoopback(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        # The authorization server is on loopback as well, but with TLS; a native application's redirect has none.
        if newurl.startswith("http://"):
            raise _Unreachable(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
