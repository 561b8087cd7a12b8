"""``worker.transports.cookies``: a session sends back what was set, and holds a bounded number."""

from __future__ import annotations

import pytest

from worker.transports.cookies import Cookies, cookie_in


@pytest.mark.parametrize(
    ("said", "cookie"),
    [
        (b"a=1; Path=/; HttpOnly", b"a=1"),
        (b"a=1=2", b"a=1=2"),
        (b'a="x y"; Expires=Sat, 05 Dec 2099 07:00:00 GMT', b'a="x y"'),
        (b"a=1; Max-Age=0", b"a="),
        (b"a=; Path=/", b"a="),
        (b"a", b""),
        (b"=1", b""),
        (b"a=1,b=2", b""),
        (b"a=" + b"x" * 5000, b""),
    ],
)
def test_a_cookie_is_its_name_and_value(said: bytes, cookie: bytes) -> None:
    assert cookie_in(said) == cookie


def test_cookies_are_kept_until_they_are_over_and_changes_are_told() -> None:
    cookies = Cookies()
    assert cookies.set(b"a=1, b=2")
    assert not cookies.set(b"a=1")
    assert cookies.header() == "a=1; b=2"
    assert cookies.set(b"a=, b=3, , x\r=1")
    assert cookies.header() == "b=3"
    for number in range(50):
        cookies.set(b"c%d=1" % number)
    assert cookies.header().count(";") == 19
