"""The connection to Ray: a cluster of its own on this machine, or one that is there.

Ray is asked for when somebody wants it, and not before: importing it takes a second.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from jsonl_runner import __version__

from ..clock import SystemClock
from ..errors import ConfigError, RunStoppedError
from .head import HeadWatch, answers
from .station import Report, Station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from ..clock import Stop
    from .station import Duty, Order

#: An own cluster: one that lives and dies with this process.
LOCAL = "local"
#: What stands before the address of Ray's own client, for whoever is no node of the cluster.
_CLIENT = "ray://"
#: Variables that say for how many seconds Ray bears a silent head, and what it does without them:
#: as a node of the cluster, and through its client.
_PATIENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", 60.0)
_CLIENT_PATIENCE = ("RAY_CLIENT_RECONNECT_GRACE_PERIOD", 30.0)
#: Bytes of its object store, the least that Ray takes: rows pass by it, but for the longest.
_STORE_BYTES = 80 * 2**20
#: Processors that a worker asks Ray for: it waits for answers, and a core serves many. Not 0, so
#: that a head node that offers none (`num-cpus: 0`, as KubeRay advises) gets no workers.
_CPUS = 0.01
#: What Ray heeds: it would tell its makers of each start, and build an environment that uv made
#: anew for each worker.
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
#: What its client heeds beside, and reads when Ray is imported: in place of a cluster that is lost
#: it would begin one of its own.
_CLIENT_SURROUNDINGS = {"RAY_ENABLE_AUTO_CONNECT": "0"}
#: Ray takes the token that lies on this machine for a cluster that it finds by itself alone.
_AUTH_MODE = "RAY_AUTH_MODE"
_HINT = f"; where a cluster asks for a token, set {_AUTH_MODE}=token"
_LOCAL_HINT = (
    "; it keeps its files in RAY_TMPDIR, a folder with room and a short name, and a token in the "
    "home folder"
)
#: Where it says of which node it speaks, and what that lacks; and what colours its words.
_NODE, _LACKING = re.compile(r"\bip=([\w.:]+)"), re.compile(r"No module named '([\w.]+)'")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_MISSING = (
    "--engine ray needs Ray: pip install 'jsonl-runner[ray]' (there is none for Macs with an Intel "
    "processor)"
)


class WorkerLostError(Exception):
    """A worker is gone: its process, or its node."""


class Cluster:
    """Ray, connected; closed at the end of the run.

    Args:
        address: `local`, `auto` (the cluster that this machine is a node of), `host:port`, or
            `ray://host:port`.
        environ: for the processes of a cluster of its own, beside this process's environment; Ray
            writes it nowhere.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str, environ: Mapping[str, str]) -> None:
        more = _CLIENT_SURROUNDINGS if address.startswith(_CLIENT) else {}
        for name, value in (_SURROUNDINGS | more).items():
            os.environ.setdefault(name, value)
        try:
            import ray  # noqa: PLC0415
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == "ray"
            text = _MISSING if missing else f"Ray cannot be imported: {error}"
            raise ConfigError(text) from None
        self._ray: Any = ray
        self.is_local = address == LOCAL
        self._open = contextlib.ExitStack()
        if not ray.is_initialized():  # else it is the caller's, and stays open
            self._connect(address, environ)
            self._open.callback(ray.shutdown)
        self._open.enter_context(_quiet())
        self._head = self._watch(address)
        kind = ray.remote(
            num_cpus=_CPUS, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._station = kind(Station)

    def _connect(self, address: str, environ: Mapping[str, str]) -> None:
        own: dict[str, Any] = {}
        hint = "" if _AUTH_MODE in os.environ else _HINT
        hint = _LOCAL_HINT if self.is_local else hint
        if ":" in address and not answers(address.removeprefix(_CLIENT)):  # Ray takes a minute
            raise ConfigError(f"--ray-address {address}: nobody takes connections there")
        if self.is_local:
            own = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            with (
                _environment(environ if self.is_local else {}),
                _own_signals(),
                warnings.catch_warnings(action="ignore"),  # the error says what is to be said
            ):
                # What workers print may hold prompts: it stays on their nodes.
                self._ray.init(address, log_to_driver=False, logging_level="error", **own)
        except Exception as error:  # noqa: BLE001  # Ray raises RuntimeError, ConnectionError, its own …
            why = _first_line(error)
            raise ConfigError(
                f"--ray-address {address}: no Ray cluster can be had there ({why}){hint}"
            ) from None

    def _watch(self, address: str) -> HeadWatch | None:
        """Return what looks at the head; None where its address is unknown."""
        name, default = _CLIENT_PATIENCE if address.startswith(_CLIENT) else _PATIENCE
        where = address.removeprefix(_CLIENT)
        if not address.startswith(_CLIENT):
            try:
                where = self._ray.get_runtime_context().gcs_address
            except AttributeError:  # the caller's own connection, through Ray's client
                return None
        head = HeadWatch(where, float(os.environ.get(name, default)), SystemClock())
        self._open.callback(head.close)
        head.start()
        return head

    def check(self, stop: Stop) -> None:
        """Ask for the end of a run whose cluster has no head any more."""
        if self._head is not None:
            self._head.check(stop)

    @property
    def nodes(self) -> int:
        """Nodes that are alive and offer processors; 1 at least."""
        offers = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return max(1, sum("CPU" in offer for offer in offers))

    def check_sending(self, function: object) -> None:
        """Check that a function of the user's can go to other processes.

        Raises:
            ConfigError: it holds what stays where it is (an open file, a lock).
        """
        from ray import cloudpickle  # noqa: PLC0415

        try:
            cloudpickle.dumps(function)
        except Exception as error:  # noqa: BLE001  # whatever its parts raise
            raise ConfigError(
                f"--engine ray: this function cannot be sent to other processes ({error})"
            ) from None

    def hire(self) -> Any:
        """Return a new worker; Ray places it when it can."""
        with _connected():
            return self._station.remote()

    def open(self, worker: Any, make: Callable[[], Duty]) -> Future[Report]:
        """Have a worker begin."""
        from ray import cloudpickle  # noqa: PLC0415

        packed = cloudpickle.dumps(make)
        with _connected():
            future: Future[Report] = worker.open.remote(__version__, packed).future()
        return future

    def step(self, worker: Any, order: Order) -> Future[Report]:
        """Give a worker an order."""
        with _connected():
            future: Future[Report] = worker.step.remote(order).future()
        return future

    def close_worker(self, worker: Any) -> Future[None]:
        """Have a worker let go of what it has open."""
        with _connected():
            future: Future[None] = worker.close.remote().future()
        return future

    def dismiss(self, worker: Any) -> None:
        """End a worker's process, whatever it does."""
        with contextlib.suppress(Exception):  # it may be gone, and Ray too
            self._ray.kill(worker, no_restart=True)

    def report_of(self, future: Future[Report]) -> Report:
        """Return what came of a call that is over.

        Raises:
            WorkerLostError: the worker is gone.
            RunStoppedError: the connection to the cluster is.
            RuntimeError: a defect, in the worker's own words.
        """
        from ray import exceptions  # noqa: PLC0415

        try:
            with _connected():
                return future.result()
        except RunStoppedError:
            raise
        except exceptions.RayTaskError as error:
            raise RuntimeError(f"a worker failed: {error.cause!r}") from None
        except exceptions.RayError as error:
            if lacking := _LACKING.search(str(error)):
                return Report(is_over=True, ended=ConfigError(_lack(lacking[1], str(error))))
            raise WorkerLostError(_first_line(error)) from None
        except Exception as error:  # noqa: BLE001  # what it sent cannot be read, or Ray is at its end
            raise RuntimeError(f"Ray failed: {error!r}") from None

    def close(self) -> None:
        """Leave the cluster; one of its own ends."""
        with contextlib.suppress(Exception):  # it may be gone
            self._open.close()


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Tell the end of the connection, as Ray's client has it, in words of ours."""
    try:
        yield
    except ConnectionError as error:
        raise RunStoppedError(
            f"the connection to the Ray cluster is lost ({_first_line(error)}); the same command "
            "goes on where this run ended"
        ) from None


def _first_line(error: BaseException) -> str:
    lines = _COLOUR.sub("", str(error)).strip().splitlines()
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _lack(module: str, said: str) -> str:
    """Return that a node cannot even begin, by what Ray says of it."""
    node = _NODE.search(said)
    return (
        f"a node of the cluster{f' ({node[1]})' if node else ''} has no Python module {module}: "
        "install the same packages on every node"
    )


@contextlib.contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment of the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep SIGTERM as it is: Ray would take it for itself, for good."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray off stdout: it prints each worker's death there, whatever `log_to_driver` says."""
    module = sys.modules.get("ray._private.worker")
    before = getattr(module, "print_to_stdstream", None)
    if before is not None:
        module.print_to_stdstream = lambda *_args, **_more: None  # type: ignore[union-attr]
    try:
        yield
    finally:
        if before is not None:
            module.print_to_stdstream = before  # type: ignore[union-attr]
