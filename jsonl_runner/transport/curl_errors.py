"""libcurl's error numbers in our words (https://curl.se/libcurl/c/libcurl-errors.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pycurl

from ..errors import TransportError
from ..secret import without_login

if TYPE_CHECKING:
    from .base import TransportSettings

_CHECK_NETWORK = "check the network, a firewall, api_base and proxy"

#: CURLE_PROXY (libcurl 7.73), which pycurl does not name.
_E_PROXY = 97
_URL = {pycurl.E_URL_MALFORMAT, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_NOT_BUILT_IN}
#: A certificate or the local set-up is wrong, and will be for every call.
_TLS = {
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_ISSUER_ERROR,
    pycurl.E_SSL_CRL_BADFILE,
    pycurl.E_SSL_ENGINE_NOTFOUND,
    pycurl.E_SSL_ENGINE_SETFAILED,
    pycurl.E_SSL_ENGINE_INITFAILED,
    pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH,
    pycurl.E_USE_SSL_FAILED,
}
_RESET = {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}
#: `E_GOT_NOTHING`, `E_SEND_FAIL_REWIND`: closed before a byte of the answer, on a new connection
#: and on a kept one.
_CUT_OFF = {pycurl.E_PARTIAL_FILE, pycurl.E_GOT_NOTHING, pycurl.E_SEND_FAIL_REWIND}


def translate(
    number: int, text: str, settings: TransportSettings, *, connected: bool
) -> TransportError:
    """Return libcurl's error as ours.

    Args:
        number: libcurl's error number.
        text: what libcurl says of it.
        settings: of the transport, for what the message names.
        connected: whether the request could be sent, so that the server may have seen it.
    """
    host = urlsplit(settings.base_url).hostname or settings.base_url
    said = without_login(" ".join(text.split()))
    if number == pycurl.E_OPERATION_TIMEDOUT:
        code, message = _timeout(host, settings, connected=connected)
    elif number == pycurl.E_UNSUPPORTED_PROTOCOL and connected:  # an answer, but which?
        code, message = "not_http", f"{host} does not speak HTTP ({said}): check api_base"
    else:
        code, message = _explain(number, host, said)
    return TransportError(code, message, connected=connected)


def _timeout(host: str, settings: TransportSettings, *, connected: bool) -> tuple[str, str]:
    if connected:
        return "timeout", f"no whole answer within {settings.timeout_s:g} s (timeout)"
    limit = min(settings.connect_timeout_s, settings.timeout_s)
    return "connect_timeout", f"no connection to {host} within {limit:g} s: {_CHECK_NETWORK}"


def _explain(number: int, host: str, said: str) -> tuple[str, str]:
    if number in _URL:
        return "url", f"{said}: check api_base"
    if number == pycurl.E_COULDNT_RESOLVE_HOST:
        return "dns", f"the name {host} cannot be resolved: {_CHECK_NETWORK}"
    if number in {pycurl.E_COULDNT_RESOLVE_PROXY, _E_PROXY}:
        return "proxy", f"the proxy cannot be used ({said}): check proxy"
    if number == pycurl.E_COULDNT_CONNECT:
        return "refused", f"no connection to {host} ({said}): {_CHECK_NETWORK}"
    if number in _TLS:
        return "tls", f"no trusted connection to {host} ({said}): check api_base and proxy"
    if number == pycurl.E_SSL_CONNECT_ERROR:
        return "tls_handshake", f"no TLS connection to {host} ({said}): {_CHECK_NETWORK}"
    if number in _RESET:
        return "reset", f"the connection to {host} broke ({said})"
    if number in _CUT_OFF:
        return "cut_off", f"{host} closed the connection before the answer was whole"
    # Whatever else libcurl meets (HTTP/2 framing, encodings, memory) may pass.
    return f"curl_{number}", f"{said or 'libcurl failed'} (libcurl error {number})"
