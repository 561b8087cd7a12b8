"""``worker.transports.http_endpoint``: which hosts ``NO_PROXY`` names, in the forms of curl, Python, Go and Node."""

from __future__ import annotations

import pytest

from shared.connections import HttpConnection
from worker.transports.http_endpoint import HttpEndpoint


def _uses_proxy(url: str) -> bool:
    return HttpEndpoint(url, HttpConnection(url)).proxy is not None


@pytest.mark.parametrize(
    ("rules", "url", "direct"),
    [
        ("x.org", "http://x.org/", True),
        ("x.org", "http://a.x.org/", True),
        ("x.org", "http://ax.org/", False),
        (".x.org", "http://a.x.org/", True),
        ("*.x.org", "http://a.x.org/", True),
        ("*.x.org", "http://other.org/", False),
        ("X.ORG", "http://x.org/", True),
        ("x.org.", "http://x.org/", True),
        ("x.org:8080", "http://x.org:8080/", True),
        ("x.org:8080", "http://x.org/", False),
        ("x.org:80", "http://x.org/", True),
        ("https://x.org", "http://x.org/", True),
        ("a.org x.org", "http://x.org/", True),
        (" a.org , x.org ", "http://x.org/", True),
        ("*", "http://x.org/", True),
        ("", "http://x.org/", False),
        (",", "http://x.org/", False),
        ("192.0.2.1", "http://192.0.2.1/", True),
        ("192.0.2.1:81", "http://192.0.2.1/", False),
        ("192.0.2.0/24", "http://192.0.2.9/", True),
        ("192.0.2.0/24", "http://198.51.100.9/", False),
        ("2001:db8::1", "http://[2001:db8::1]/", True),
        ("[2001:db8::1]", "http://[2001:db8::1]/", True),
        ("[2001:db8::1]:80", "http://[2001:db8::1]/", True),
        ("2001:db8::/32", "http://[2001:db8::9]/", True),
        ("[", "http://x.org/", False),
    ],
)
def test_it_names_hosts_in_many_forms(rules: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", rules)
    assert _uses_proxy(url) is not direct
