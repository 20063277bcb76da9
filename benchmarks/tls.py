"""nginx as a provider that answers at once, in the clear and with TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.machine import SERVER_CPU, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TEXT = "The library opens at nine in the morning on weekdays and at ten on Saturdays. " * 3
_ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "gpt-4.1-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": _TEXT},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 34, "completion_tokens": 44, "total_tokens": 78},
}
# No log, no worker processes, no end of a kept connection: only the calls cost.
_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_time 24h;
  keepalive_timeout 1h;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  add_header x-request-id req_bench;
  add_header x-ratelimit-limit-requests 100000000;
  add_header x-ratelimit-remaining-requests 99999999;
  add_header x-ratelimit-reset-requests 1ms;
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    listen 127.0.0.1:{secure} ssl backlog=4096;
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Run nginx on the server's core; yield its two addresses and the certificate to trust."""
    certificate = folder / "certificate.pem"
    _make_certificate(certificate, folder / "key.pem")
    plain, secure = _free_ports()
    answer = json.dumps(_ANSWER, separators=(",", ":"))
    config = folder / "nginx.conf"
    text = _CONFIG.format(folder=folder, plain=plain, secure=secure, answer=answer)
    config.write_text(text, encoding="ascii")
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log")]
    with pinned(SERVER_CPU):
        process = subprocess.Popen(command)
    try:
        _wait_for(plain, process)
        yield f"http://127.0.0.1:{plain}/v1", f"https://127.0.0.1:{secure}/v1", certificate
    finally:
        process.terminate()
        process.wait(30)


def _make_certificate(certificate: Path, key: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    # nginx that is started by root reads it as another user.
    key.chmod(0o644)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx does not answer")
