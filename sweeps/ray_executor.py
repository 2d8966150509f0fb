"""Ray Tune as an executor: each bundle is one Tune trial, handed out by a Searcher of ours; the only file with ray.

Tune places the trials (CPU and GPU shares) and keeps actors alive from one bundle to the next. An actor runs
`sweeps.worker.run_bundle` in a thread; each Tune step hands on the events of up to a second, so Tune's results are the
only channel back. The other way there is one file in the session's scratch folder, whose word (``drain``, ``kill``) the
actors heed. An actor that dies, wherever and however, makes its bundle `Lost`; retries are the driver's.

What Tune writes is scratch and never read again; the folder goes when the executor closes. An instance of our own
listens for a token that only our processes know and starts no dashboard; it ends with its driver, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import ray
from ray import tune
from ray._private.ray_logging import stdout_deduplicator
from ray.tune.search import Searcher

from core.errors import InputError, LoopsweepError
from core.numerics import THREAD_VARIABLES
from studies.store import Store
from sweeps.executor import Committed, Event, Finished, Lost, Started
from sweeps.local_executor import available_cores
from sweeps.ray_desk import Desk
from sweeps.units import Bundle
from sweeps.worker import kind_of, prepare_process, reason_of, run_bundle

OLDEST = (2, 54)
"""Earlier releases of Ray start without a token."""
STEP_SECONDS = 1.0
"""Longest time between two looks of an actor at its deadline, and longest delay of its `Progress`."""
ORDER_SECONDS = 0.2
"""Time between two looks of an actor at the order file."""
START_FAILURES = 3
"""Actors in a row that may die before they begin a unit; more means that none can start."""
CLOSE_SECONDS = 20.0
"""Longest wait for Tune to end by itself; actors are killed with the instance in any case."""
REACH_SECONDS = 5.0
"""Longest wait for a cluster to take a connection."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Bundles and events are small; Ray's default would claim 30 % of the memory."""

_DRAIN, _KILL = "drain", "kill"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The behaviour to come, instead of a warning about it at each start.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # State nobody reads need not be written every ten seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
}


class RayExecutor:
    """Runs bundles on Ray; see `sweeps.executor.Executor`.

    A Ray that this process is connected to already is used and left running; else one is started or connected to, and
    ended by `close`.
    """

    def __init__(self, store_root: Path | str, *, workers: int | None = None, address: str | None = None) -> None:
        """Starts Ray or connects to it; actors start when bundles come.

        Args:
            store_root: where actors commit; must exist, at the same path on every node.
            workers: bundles run at once; None = one per CPU.
            address: of a running cluster, as for ``ray.init``; None = start an instance on this machine.

        Raises:
            InputError: where Ray is too old, or no cluster answers at `address`.
        """
        self._root = str(store_root)
        self._closed = False
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            name = f"session-{os.getpid()}-{secrets.token_hex(4)}"
            folder = Store.open(store_root).scratch("ray").resolve()
            self._session = folder / name
            self._session.mkdir(parents=True)
            opening.callback(shutil.rmtree, self._session, ignore_errors=True)
            opening.enter_context(_environment(_ENVIRONMENT))
            if not ray.is_initialized():
                start(workers=workers, address=address)
                opening.callback(ray.shutdown)
            opening.enter_context(_quiet(self._session / "ray.log"))
            resources = ray.cluster_resources()
            cores = max(1, int(resources.get("CPU", 1)))
            self._slots = min(workers or cores, cores)
            self._desk = Desk(self._slots, resources.get("GPU", 0.0), ahead=self._slots == cores)
            self._order = self._session / "order"
            self._tune = threading.Thread(target=self._fit, args=(folder, name), name="ray-tune", daemon=True)
            self._failure: str | None = None
            self._tune.start()
            self._cleanup = opening.pop_all()

    @property
    def slots(self) -> int:
        """Bundles it can run at once."""
        return self._slots

    def __enter__(self) -> RayExecutor:
        """Itself; `close` at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def submit(self, bundle: Bundle) -> None:
        """Takes a bundle; Tune asks for it as soon as an actor may run it.

        Raises:
            InputError: where it wants a GPU and the cluster has none.
        """
        self._desk.put(bundle)

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to `timeout` seconds for at least one.

        Raises:
            LoopsweepError: where Tune itself failed, or actors die again and again before they can do anything.
        """
        events = self._desk.take(timeout)
        if not events:
            if self._failure is not None:
                raise LoopsweepError(f"Ray Tune failed: {self._failure}")
            if self._desk.failed_starts >= START_FAILURES:
                raise LoopsweepError(f"actors cannot start on this cluster: {self._desk.last_death}")
        return events

    def stop(self, *, drain: bool) -> None:
        """No new units begin; running ones end at their next block and commit, or their actors end at once."""
        self._desk.close()
        # The order is replaced, never written in place: an actor reads a whole word or none.
        fresh = self._session / "order.new"
        fresh.write_text(_DRAIN if drain else _KILL)
        fresh.replace(self._order)

    def close(self) -> None:
        """Ends actors, Tune and, where it was started here, Ray; removes what Tune wrote."""
        if self._closed:
            return
        self._closed = True
        self.stop(drain=False)
        self._tune.join(CLOSE_SECONDS)
        self._cleanup.close()

    def _fit(self, folder: Path, name: str) -> None:
        """The body of Tune's thread."""
        try:
            tune.Tuner(
                BundleTrainable,
                param_space={"root": self._root, "order": str(self._order)},
                tune_config=tune.TuneConfig(
                    search_alg=_Handout(self._desk),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=_trial_name,
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=str(folder),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    callbacks=[_Listener(self._desk)],
                ),
            ).fit()
        except Exception as error:  # whatever it is, the driver must hear of it
            self._failure = reason_of(error)
        else:
            if not self._desk.closed:
                self._failure = "it ended while bundles were to come"


def start(*, workers: int | None = None, address: str | None = None) -> None:
    """Starts Ray on this machine, behind a token, or connects to the cluster at `address`.

    Raises:
        InputError: where Ray is too old, or no cluster answers.
    """
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        raise InputError(f"--on ray needs ray >= {OLDEST[0]}.{OLDEST[1]}, got {ray.__version__}; upgrade it")
    options: dict[str, Any] = {
        "log_to_driver": False,
        "configure_logging": False,
        # Threads are pinned before the first import in a worker process reads their number.
        "runtime_env": {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")},
    }
    if address is not None:
        options["address"] = address
    else:
        # Ray asks for a token by default. Ours is in the environment only: Ray's own would go to a file that others may
        # read. It stays set, since Ray reads it once per process.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options |= {
            "address": "local",
            "num_cpus": workers or available_cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            # Ray replaces 127.0.0.1 by an address that others reach; all of 127/8 is loopback on Linux.
            "_node_ip_address": "127.0.0.2" if sys.platform == "linux" else "127.0.0.1",
        }
    with _own_signals(), _environment(_ENVIRONMENT), _muted():
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = "cannot start on this machine" if address is None else f"does not answer at {address!r}"
            raise InputError(f"Ray {where}: {reason_of(error)}") from None


def reach(address: str) -> None:
    """Knocks at a cluster's port: Ray itself keeps trying for more than a minute where nobody listens.

    Raises:
        InputError: where the address is not one, or nobody answers within some seconds.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f'--address must be "auto", HOST:PORT or ray://HOST:PORT, got {address!r}')
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r}: {reason_of(error)}; start one, or leave --address out"
        ) from None


# --- what Tune calls -------------------------------------------------------------------------------------------------


class _Handout(Searcher):  # type: ignore[misc]  # Ray publishes no types
    """Gives Tune the bundles of the desk."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        given = self.desk.hand_out(trial_id)
        if given is None:
            return str(Searcher.FINISHED) if self.desk.closed else None
        bundle, gpu = given
        return {"bundle": bundle, "gpu": gpu}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: `_Listener` hears the same, with the reason."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: it is never restored."""

    def restore(self, _checkpoint_path: str) -> NoReturn:
        raise LoopsweepError("a session of Ray Tune is never restored; the store knows what is done")

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune writes its pieces down on starting; what holds locks of this process is left out.
        return object, ()


class _Listener(tune.Callback):  # type: ignore[misc]  # Ray publishes no types
    """Passes what Tune hears on to the desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_more: Any) -> None:
        self.desk.hear(trial.config["bundle"].id, result["events"])

    def on_trial_complete(self, *, trial: Any, **_more: Any) -> None:
        self.desk.gone(trial.trial_id, "")

    def on_trial_error(self, *, trial: Any, **_more: Any) -> None:
        told = Path(trial.error_file) if trial.error_file else None
        self.desk.gone(trial.trial_id, told.read_text() if told is not None and told.exists() else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return object, ()


def _trial_name(trial: Any) -> str:
    """Tune's name of a trial and of its folder: an id of Tune's making, whatever the bundle holds."""
    return str(trial.trial_id)


# --- in the actor ----------------------------------------------------------------------------------------------------


class BundleTrainable(tune.Trainable):  # type: ignore[misc]  # Ray publishes no types
    """One actor: runs the bundle of its configuration, then that of the next."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """One CPU, and the bundle's share of a GPU."""
        wants = {"CPU": 1.0} | ({"GPU": config["gpu"]} if config.get("gpu") else {})
        return tune.PlacementGroupFactory([wants])

    def setup(self, config: dict[str, Any]) -> None:
        """A fresh actor."""
        prepare_process()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next bundle, in the same process."""
        self._bundle: Bundle = new_config["bundle"]
        self._order = _Order(Path(new_config["order"]))
        self._root: str = new_config["root"]
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._work: threading.Thread | None = None
        self._over = self._late = False
        return True

    def step(self) -> dict[str, Any]:
        """The events of up to `STEP_SECONDS`; sooner where the driver waits for one of them.

        The events that end a bundle go in a step that is not the last, so that Tune already has the next bundle, and
        keeps this actor for it, when the trial ends.
        """
        if self._late:
            os._exit(1)  # the thread of a unit that takes too long can't be ended in any other way
        if self._over:
            return {"events": [], tune.result.DONE: True}
        if self._work is None:
            self._work = threading.Thread(target=self._run, name="bundle", daemon=True)
            self._work.start()
        events: list[Event] = []
        end = time.monotonic() + STEP_SECONDS
        while (left := end - time.monotonic()) > 0 and not self._late:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=min(left, ORDER_SECONDS))
                events.append(event)
                self._heard(event)
                if isinstance(event, (Committed, Finished, Lost)):
                    break
            if self._order.word() == _KILL:
                os._exit(1)
            if self._deadline is not None and time.monotonic() > self._deadline:
                reason = f"a unit took longer than {self._bundle.unit_timeout_s:g} s"
                events.append(Lost(bundle=self._bundle.id, kind="timeout", reason=reason))
                self._late = True
        return {"events": events}

    def _heard(self, event: Event) -> None:
        if isinstance(event, Started) and self._bundle.unit_timeout_s is not None:
            self._deadline = time.monotonic() + self._bundle.unit_timeout_s
        elif isinstance(event, (Finished, Lost)):
            self._over, self._deadline = True, None

    def _run(self) -> None:
        """The body of the working thread."""
        try:
            run_bundle(self._bundle, self._root, self._events.put, drain=lambda: self._order.word() == _DRAIN)
        except BaseException as error:  # a thread must not end unheard
            self._events.put(Lost(bundle=self._bundle.id, kind=kind_of(error), reason=reason_of(error)))


class _Order:
    """The driver's word to all actors of a session, looked up at most every `ORDER_SECONDS`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._word: str | None = None
        self._next = 0.0

    def word(self) -> str | None:
        """``drain``, ``kill`` or None."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + ORDER_SECONDS
            with contextlib.suppress(FileNotFoundError):
                self._word = self._path.read_text()
        return self._word


# --- the process around it -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables that are not set, and takes them back."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """What Ray has to say goes to a file instead of the console."""
    logger = logging.getLogger("ray")
    before = logger.handlers, logger.propagate
    handler = logging.FileHandler(log, delay=True)
    logger.handlers, logger.propagate = [handler], False
    # Ray prints each dead worker to stdout, where only results belong, and has no switch for it but this filter of its.
    skipped, stdout_deduplicator.skip_re = stdout_deduplicator.skip_re, re.compile("")
    try:
        yield
    finally:
        stdout_deduplicator.skip_re = skipped
        logger.handlers, logger.propagate = before
        handler.close()


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """No notes of Ray's while it starts."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process's answer to SIGINT and SIGTERM, which ``ray.init`` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signal handlers are the main thread's alone, Ray leaves them too
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
