"""What every transport takes from its surroundings, by the same rules: trust, proxies, accounts."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import certifi

from ..errors import ConfigError

if TYPE_CHECKING:
    from .base import TransportSettings

#: Hosts that no proxy of the environment can mean.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPENAI_HOST = "api.openai.com"
#: Which organization and project of an account pays: variable and header, as OpenAI's SDK has them.
_ACCOUNT = {
    "OPENAI_ORG_ID": "OpenAI-Organization",
    "OPENAI_PROJECT_ID": "OpenAI-Project",
}


def trusted_certificates() -> str:
    """Return the file of trusted certificates: SSL_CERT_FILE, the system's, or certifi's.

    pycurl's wheels carry an OpenSSL of their own that knows no system's paths, so the file is
    named. A slim container without the package ca-certificates gets certifi's.
    """
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        return named
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).is_file() else certifi.where()


def is_loopback(base_url: str) -> bool:
    """Return whether an address is this machine's own."""
    return urlsplit(base_url).hostname in _LOOPBACK


def account_headers(base_url: str) -> dict[str, str]:
    """Return the headers that name an account's organization and project.

    They go to OpenAI's own hosts only: the SDK would tell them to every address.

    Raises:
        ConfigError: a variable holds what no header can.
    """
    host = urlsplit(base_url).hostname or ""
    if host != _OPENAI_HOST and not host.endswith("." + _OPENAI_HOST):
        return {}
    found = {}
    for variable, header in _ACCOUNT.items():
        value = os.environ.get(variable, "").strip()
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"environment: {variable} must be printable ASCII")
        if value:
            found[header] = value
    return found


def proxy_for(settings: TransportSettings) -> str | None:
    """Return the proxy in force, by libcurl's rules; None for none.

    What is configured goes first; the environment's is never used for this machine itself.
    """
    if settings.proxy is not None:
        return settings.proxy
    parts = urlsplit(settings.base_url)
    host = parts.hostname or ""
    if is_loopback(settings.base_url) or _is_exempt(host):
        return None
    # Not HTTP_PROXY: where a web server calls us, a visitor's `Proxy:` header stands in it.
    names = ("http_proxy",) if parts.scheme == "http" else ("https_proxy", "HTTPS_PROXY")
    for name in (*names, "all_proxy", "ALL_PROXY"):
        if value := os.environ.get(name):
            return value if "://" in value else f"http://{value}"
    return None


def _is_exempt(host: str) -> bool:
    """Return whether `no_proxy` names the host: itself, a domain above it, or its network."""
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = exempt.replace(",", " ").split()
    return any(name == "*" or _names(name, host) for name in names)


def _names(name: str, host: str) -> bool:
    name = name.strip("[].").lower()
    if host == name or host.endswith("." + name):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:  # names, not numbers
        return False
