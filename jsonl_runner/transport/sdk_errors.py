"""The SDK's HTTP library's errors in our words; the codes are those of `curl_errors`."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpcore2
import httpx2

from ..errors import TransportError
from ..secret import without_login
from .base import MAX_REPLY_BYTES

if TYPE_CHECKING:
    from .base import TransportSettings

_CHECK_NETWORK = "check the network, a firewall, api_base and proxy"


class CallEndedError(httpx2.NetworkError):
    """A call broke; the SDK makes an `APIConnectionError` of it, with this as its cause.

    Attributes:
        failure: what it is in our words.
    """

    def __init__(self, failure: TransportError) -> None:
        super().__init__(str(failure))
        self.failure = failure


class CallTimedOutError(httpx2.TimeoutException):
    """A call took too long; the SDK makes an `APITimeoutError` of it. As `CallEndedError`."""

    def __init__(self, failure: TransportError) -> None:
        super().__init__(str(failure))
        self.failure = failure


def aborted(*, sent: bool) -> CallEndedError:
    """Return the error of a call that was ended from our side."""
    return _ended("aborted", "the call was ended", sent=sent)


def too_large() -> CallEndedError:
    """Return the error of an answer beyond all reason."""
    text = f"the answer is longer than {MAX_REPLY_BYTES // 2**20} MiB"
    return _ended("too_large", text, sent=True)


def stalled(settings: TransportSettings) -> CallEndedError:
    """Return the error of an answer that does not go on."""
    text = f"the answer began and then stalled for {settings.body_timeout_s:g} s"
    return _ended("stalled", text, sent=True)


def late(settings: TransportSettings, *, sent: bool) -> CallTimedOutError:
    """Return the error of a call whose time is over."""
    if sent:
        text = f"no whole answer within {settings.timeout_s:g} s (timeout)"
        return CallTimedOutError(TransportError("timeout", text, connected=True))
    limit = min(settings.connect_timeout_s, settings.timeout_s)
    text = f"no connection to {_host(settings)} within {limit:g} s: {_CHECK_NETWORK}"
    return CallTimedOutError(TransportError("connect_timeout", text, connected=False))


def not_connected(
    error: Exception, host: str, settings: TransportSettings, *, by_proxy: bool
) -> CallEndedError:
    """Return the error of a connection that did not come about.

    Args:
        error: what happened.
        host: whom we tried to reach: the server, or the proxy before it.
        settings: of the transport, for what the message names.
        by_proxy: whether that was a proxy.
    """
    if isinstance(error.__cause__, socket.gaierror) or isinstance(error, UnicodeError):
        text = f"the name {host} cannot be resolved"
        if by_proxy:
            return _ended("proxy", f"the proxy cannot be used ({text}): check proxy", sent=False)
        return _ended("dns", f"{text}: {_CHECK_NETWORK}", sent=False)
    text = f"no connection to {_host(settings)} ({_said(error)}): {_CHECK_NETWORK}"
    return _ended("refused", text, sent=False)


def no_tls(error: Exception, settings: TransportSettings) -> CallEndedError:
    """Return the error of a TLS connection that did not come about."""
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    host, said = _host(settings), _said(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"no trusted connection to {host} ({said}): check api_base and proxy"
        return _ended("tls", text, sent=False)
    return _ended("tls_handshake", f"no TLS connection to {host} ({said}): {_CHECK_NETWORK}")


def broken(
    error: Exception, settings: TransportSettings, *, sent: bool, closed: bool, begun: bool
) -> CallEndedError:
    """Return any other error of a call.

    Args:
        error: what the library says.
        settings: of the transport, for what the message names.
        sent: whether any of the request was sent.
        closed: whether the server has closed the connection.
        begun: whether the answer's head has come.
    """
    host, said = _host(settings), _said(error)
    if isinstance(error, (httpcore2.UnsupportedProtocol, httpcore2.LocalProtocolError)):
        return _ended("url", f"{said}: check api_base", sent=sent)
    if isinstance(error, httpcore2.ProxyError):
        return _ended("proxy", f"the proxy cannot be used ({said}): check proxy", sent=sent)
    if closed:
        text = f"{host} closed the connection before the answer was whole"
        return _ended("cut_off", text, sent=sent)
    if isinstance(error, httpcore2.RemoteProtocolError) and not begun:
        text = f"{host} does not speak HTTP ({said}): check api_base"
        return _ended("not_http", text, sent=sent)
    if isinstance(error, (httpcore2.NetworkError, httpcore2.ProtocolError, OSError)):
        return _ended("reset", f"the connection to {host} broke ({said})", sent=sent)
    # Whatever else there is (a SOCKS proxy's odd answer) may pass.
    return _ended("sdk_error", f"{type(error).__name__}: {said}", sent=sent)


def _ended(code: str, message: str, *, sent: bool = False) -> CallEndedError:
    return CallEndedError(TransportError(code, message, connected=sent))


def _host(settings: TransportSettings) -> str:
    return urlsplit(settings.base_url).hostname or settings.base_url


def _said(error: Exception) -> str:
    return without_login(" ".join(str(error).split()))
