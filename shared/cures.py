"""What helps against the error of an upstream, for people. Pure.

The error itself says the cause, as whoever met it put it into words. This adds what to do about it, by the words of the
cause and by how the upstream is reached. It is for those who run the gateway (``ServerEntry.advice``), not for clients.
"""

from __future__ import annotations

import re

from msgspec import Struct

from shared.transports import traits

_LOGS = "look at its last lines: 'gateway servers logs ID'"


class _Cure(Struct, frozen=True):
    """``words`` are a pattern that the error matches; ``command`` says for which upstreams it is: commands, URLs, or
    both."""

    words: re.Pattern[str]
    advice: str
    command: bool | None = None


def _cure(words: str, advice: str, command: bool | None = None) -> _Cure:
    return _Cure(re.compile(words, re.IGNORECASE), advice, command)


_CURES = (
    _cure("answered error -32601: cannot tell", "it sends back what it gets: it is no MCP server", True),
    _cure("the upstream answered error", "the server itself says so: look at its configuration and its log"),
    _cure(
        "nobody has connected to it",
        "somebody has to sign in: what the upstream has is read in the name of one who did",
    ),
    _cure(
        "environment variable .* is not set",
        "set it in the environment from which the gateway is started, and start that anew",
    ),
    # Commands.
    _cure("no folder|working directory", "correct cwd in the entry, or make that folder on the workers' machine", True),
    _cure(
        r"command not found|no such file",
        "install it on the machine of the workers, or write its whole path; for npx install Node.js, for uvx uv",
        True,
    ),
    _cure("interpreter", "install what the first line of that file names, or correct the line", True),
    _cure("permission denied|not executable", "make it executable (chmod +x), or name its interpreter first", True),
    _cure("exec format|neither a program", "name its interpreter first: python FILE, node FILE, sh FILE", True),
    _cure(
        r"no module named|modulenotfounderror|importerror",
        "install the module for that Python: write the whole path of the virtual environment's python as the command",
        True,
    ),
    _cure(
        r"cannot find (module|package)|err_module_not_found|module_not_found",
        "install the package (npm install), correct the path in args, or run it with npx -y PACKAGE",
        True,
    ),
    _cure(
        r"\b(e404|enotfound|etarget)\b|npm err", "correct the package's name or version; npm needs the network", True
    ),
    _cure("unrecognized arguments|unknown option|usage:", "correct args in the entry: the program refuses them", True),
    _cure("api.?key|token|credential|unauthori", "set what it asks for in env of the entry", True),
    _cure("no handshake", f"it may be no MCP server, or need another argument to speak MCP on stdio; {_LOGS}", True),
    _cure("code 12[67]", "the shell cannot run it: name its interpreter first (python FILE), or correct args", True),
    _cure("sigkill", "it was killed from outside, mostly for want of memory; see the log of the machine", True),
    _cure("exited|ended by|closed its output", f"run the command by hand to see what it says; {_LOGS}", True),
    # URLs.
    _cure(
        r"HTTP (200|400|405|406|415) \((?!text/html).*not an event stream",
        "it speaks Streamable HTTP rather than HTTP+SSE: leave type out of the entry, or write http",
        False,
    ),
    _cure("proxy", "correct the proxy in the entry or in the workers' environment; proxy: direct goes without", False),
    _cure("connection refused|connect call failed", "start the server, or correct host and port of the url", False),
    _cure(
        "no address is known|has no address",
        "correct the host in the url, or the resolver of the workers' machine",
        False,
    ),
    _cure("network is unreachable|no route to host", "let the machine of the workers reach that address", False),
    _cure(
        "tls: ", "correct caFile, certFile or keyFile in the entry's tls; they are files of the workers' machine", False
    ),
    _cure(
        r"\b401\b.*(expired|invalid_token)",
        "put a new token into the entry's header, or use auth, which renews tokens by itself",
        False,
    ),
    _cure("expired", "renew the server's certificate, or set the clock of the workers' machine", False),
    _cure(
        "hostname mismatch|not valid for|ip address mismatch",
        "'openssl s_client -connect HOST:PORT' shows the name that the certificate has",
        False,
    ),
    _cure(
        "self.signed|local issuer|not trusted",
        "get the authority's certificate from whoever runs the server (PEM, a file of the workers' machine)",
        False,
    ),
    _cure("speaks no tls", "write http:// in the url, or correct the port", False),
    _cure("https port|plain http", "write https:// in the url", False),
    _cure(
        r"\b401\b",
        "it wants credentials: add a header (Authorization: Bearer …) or auth; with auth of type user, "
        "'gateway connect ID' signs a person in",
        False,
    ),
    _cure(r"\b403\b", "it refuses the credentials of the entry, or the address or Host it is asked under", False),
    _cure(
        r"\b(404|405|410)\b",
        "correct the path of the url: most servers listen at /mcp, older ones (type sse) at /sse",
        False,
    ),
    _cure(r"\b(406|415)\b", "the path is no MCP endpoint, or something between changes Accept and Content-Type", False),
    _cure(r"\b429\b", "it limits requests: ask less often (healthCheckInterval), or raise its limit", False),
    _cure(r"\b50[0-9]\b|cannot serve", "look at the log of the server, or of the proxy before it", False),
    _cure("redirect", "register the URL that it leads to, if it is yours", False),
    _cure("text/html", "that is a web page: correct the path of the url, or sign in (auth, headers)", False),
    _cure("instead of mcp|no mcp answer|http answer is broken", "it is no MCP endpoint: correct port and path", False),
    _cure(
        "before its answer was whole",
        "it hangs up: write https:// if it speaks TLS, look whether the port is that of MCP, and at its log",
        False,
    ),
    # Both.
    _cure(r"versions? ", "upgrade the server, or pin era: legacy or modern in its entry"),
    _cure("tools/list|page", "the server cannot list its tools; look at its log"),
    _cure(
        "timed out|in time|no answer|no connection in|no sign of life",
        "look whether it is overloaded or a firewall drops packets; startTimeout and connectTimeout give it longer",
    ),
    _cure("another worker owns|moving to another", "wait: another worker takes it over"),
    _cure("no worker is running", "start one: 'gateway worker', or 'gateway up', which starts its own"),
)


def cure(error: str | None, transport: str, id: str) -> str:
    """Return what helps against ``error`` of the upstream ``id``, empty if nothing is known to."""
    if not error:
        return ""
    command = traits(transport).runs_once
    found = next((one.advice for one in _CURES if one.command in (None, command) and one.words.search(error)), "")
    return re.sub(r"\bID\b", lambda _: id, found)
