"""A person at a browser, as far as a sign-in needs one: follows redirects, keeps cookies, presses a button."""

from __future__ import annotations

import http.cookiejar
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request


def sign_in(start: str, mailbox: str, tls: ssl.SSLContext) -> str:
    """Opens the address that `mailbearer login` prints, signs in as `mailbox`, and ends where the redirects end.

    Returns the text of the last page, which is what mailbearer shows on its loopback address. A page that has buttons
    gets the one with this mailbox pressed; a server that was told the mailbox by `login_hint` shows no such page.
    """
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        urllib.request.ProxyHandler({}),
    )
    url, page = _open(opener, start)
    if button := re.search(rf'<button name="(\w+)" value="{re.escape(mailbox)}"', page):
        answer = urllib.parse.urlencode({button.group(1): mailbox})
        url, page = _open(opener, f"{url}?{answer}")
    return page


def _open(opener: urllib.request.OpenerDirector, url: str) -> tuple[str, str]:
    try:
        with opener.open(url, timeout=30) as answer:
            return answer.geturl(), answer.read().decode()
    except urllib.error.HTTPError as refusal:
        raise AssertionError(f"{refusal.geturl()} answered {refusal.code}: {refusal.read().decode()}") from None
