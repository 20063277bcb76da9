"""Whatever libcurl can meet has a code that the rest of the program knows."""

from __future__ import annotations

import pycurl
import pytest

from jsonl_runner.transport.base import TransportSettings
from jsonl_runner.transport.curl_errors import translate

SETTINGS = TransportSettings("https://api.example/v1")
#: The errors that an HTTP(S) call can end with (https://curl.se/libcurl/c/libcurl-errors.html).
CODES = {
    "url": ("URL_MALFORMAT", "UNSUPPORTED_PROTOCOL", "NOT_BUILT_IN"),
    "dns": ("COULDNT_RESOLVE_HOST",),
    "proxy": ("COULDNT_RESOLVE_PROXY",),
    "refused": ("COULDNT_CONNECT",),
    "tls": (
        "PEER_FAILED_VERIFICATION",
        "SSL_CACERT",
        "SSL_CACERT_BADFILE",
        "SSL_CERTPROBLEM",
        "SSL_CIPHER",
        "SSL_CRL_BADFILE",
        "SSL_ISSUER_ERROR",
        "SSL_INVALIDCERTSTATUS",
        "USE_SSL_FAILED",
    ),
    "tls_handshake": ("SSL_CONNECT_ERROR",),
    "reset": ("RECV_ERROR", "SEND_ERROR"),
    "cut_off": ("PARTIAL_FILE", "GOT_NOTHING", "SEND_FAIL_REWIND"),
    "connect_timeout": ("OPERATION_TIMEDOUT",),
}
NUMBERS = {getattr(pycurl, f"E_{name}"): code for code, names in CODES.items() for name in names}
EVERY = sorted({getattr(pycurl, name) for name in dir(pycurl) if name.startswith("E_")} | {97})


@pytest.mark.parametrize("number", [number for number in EVERY if isinstance(number, int)])
def test_every_error_has_a_code(number: int) -> None:
    """One of ours, or for what a call to an API does not meet, libcurl's number; with a text."""
    error = translate(number, "said  so\n", SETTINGS, connected=False)
    wanted = "proxy" if number == 97 else NUMBERS.get(number, f"curl_{number}")
    if error.code == "tls":
        assert wanted in {"tls", f"curl_{number}"}  # an engine's or a pin's: never set up here
    else:
        assert error.code == wanted
    assert str(error)
    assert "\n" not in str(error)


def test_a_timeout_after_the_request_was_sent() -> None:
    """Only then may the server have seen it."""
    error = translate(pycurl.E_OPERATION_TIMEDOUT, "", SETTINGS, connected=True)
    assert (error.code, error.connected) == ("timeout", True)


def test_an_answer_that_is_no_http() -> None:
    """After something was sent, it is no fault of the address's scheme."""
    error = translate(pycurl.E_UNSUPPORTED_PROTOCOL, "HTTP/0.9", SETTINGS, connected=True)
    assert (error.code, error.connected) == ("not_http", True)
    assert "api.example does not speak HTTP" in str(error)
