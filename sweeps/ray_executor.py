"""Ray Tune as an executor: each bundle is one Tune trial, handed out by a Searcher of ours; the only file with ray.

Tune places the trials (CPU and GPU shares) and keeps actors alive from one bundle to the next. An actor runs
`sweeps.worker.run_bundle` in a thread; each Tune step hands on the events of up to a second, so Tune's results are the
only channel back (`sweeps.ray_actor`). The other way, each actor gives the driver its handle once, by which it is told
to drain, or killed. An actor that dies, wherever and however, makes its bundle `Lost`; retries are the driver's.

The code travels with the run (`sweeps.ray_code`), and every node is looked at before it works (`sweeps.ray_node`).
What Tune writes is scratch and never read again; the folder goes when the executor closes. An instance of our own
listens for a token that only our processes know and starts no dashboard unless asked; it ends with its driver, however
that ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray import tune
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._private.ray_logging import stdout_deduplicator
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # of C
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from core.errors import InputError, LoopsweepError, Problem
from core.numerics import Engine
from core.task_terms import TextTask
from studies.store import Store
from sweeps import ray_code
from sweeps.executor import Event, Executor
from sweeps.local_executor import available_cores
from sweeps.ray_actor import STEP_SECONDS, Running
from sweeps.ray_desk import Desk, Parcel
from sweeps.ray_node import Needs
from sweeps.ray_shares import Resources, capacity, gpu_share, workers_per_gpu
from sweeps.ray_surroundings import environment, muted, own_signals, quiet
from sweeps.units import Bundle
from sweeps.worker import prepare_process, reason_of

OLDEST = (2, 54)
"""Earlier releases of Ray start without a token."""
START_FAILURES = 3
"""So many actors in a row, and more than there are slots, may die before they begin a unit: then none can start."""
CLOSE_SECONDS = 20.0
"""Longest wait for Tune to end by itself; actors are killed with the instance in any case."""
LOOK_SECONDS = 2.0
"""Least time between two looks at which nodes there are."""
NODE_SECONDS = 300.0
"""Longest wait for a node to say whether it can work: it unpacks the code first, and may read the texts."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Bundles and events are small; Ray's default would claim 30 % of the memory."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The behaviour to come, instead of a warning about it at each start.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A driver that was sent as a job has the job's folder; its workers have ours.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    # Workers of ours are the work itself; Ray's are nicest of all, and on a busy machine hardly start.
    "RAY_worker_niceness": "0",
    # State nobody reads need not be written every ten seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
}


class RayExecutor(Executor):
    """Runs bundles on Ray; see `sweeps.executor.Executor`.

    A Ray that this process is connected to already is used and left running; else one is started or connected to, and
    ended by `close`.
    """

    def __init__(
        self,
        store_root: Path | str,
        *,
        workers: int | None = None,
        address: str | None = None,
        device: str = "cpu",
        engine: Engine = "eager",
        texts: Sequence[TextTask] = (),
        dashboard: bool = False,
        say: Callable[[str], None] = lambda _message: None,
    ) -> None:
        """Starts Ray or connects to it, and looks at its nodes; actors start when bundles come.

        Args:
            store_root: where actors commit; must exist, and be the same on every node.
            workers: bundles run at once on the whole cluster; None = one per CPU.
            address: of a running cluster, as for ``ray.init``; None = start an instance on this machine.
            device: of the bundles to come.
            engine: of the bundles to come.
            texts: that they read, one task of each.
            dashboard: of an instance that is started here: also Ray's dashboard, on loopback.
            say: takes lines for the user while it runs, in the thread that calls `poll`.

        Raises:
            InputError: where Ray is too old, no cluster answers at `address`, or a node of it cannot work.
        """
        self._closed, self._word, self._told = False, "", 0
        self._workers, self._device, self._say = workers, device, say
        self._actors: list[Any] = []
        self._actors_lock = threading.Lock()
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            name = f"session-{os.getpid()}-{secrets.token_hex(4)}"
            store = Store.open(store_root)
            folder = store.scratch("ray").absolute()
            self._session = folder / name
            self._session.mkdir(parents=True)
            opening.callback(shutil.rmtree, self._session, ignore_errors=True)
            opening.enter_context(environment(_ENVIRONMENT))
            if not ray.is_initialized():
                start(workers=workers, address=address, dashboard=dashboard)
                opening.callback(ray.shutdown)
                if dashboard:
                    self._say(f"Ray's dashboard: http://{ray._private.worker.global_worker.node.webui_url}")
            opening.enter_context(quiet(self._session / "ray.log", stdout_deduplicator))
            nodes = _nodes()
            resources = list(nodes.values())
            self._per_gpu = workers_per_gpu(resources, workers) if device.startswith("cuda") else None
            root = str(store_root) if "://" in str(store_root) else str(Path(store_root).absolute())
            self._needs = Needs(root=root, canary=store.plant_canary(), engine=engine, texts=tuple(texts))
            self._looked_at = _look_at(nodes, self._needs)
            self._desk = Desk()
            self._count(resources)
            self._tune = threading.Thread(target=self._fit, args=(folder, name), name="ray-tune", daemon=True)
            self._failure: str | None = None
            self._tune.start()
            self._cleanup = opening.pop_all()

    @property
    def slots(self) -> int:
        """Bundles it can run at once, on the nodes that there are now."""
        if time.monotonic() >= self._next_look and not self._closed:
            self._count(list(_nodes().values()))
        return self._slots

    def _count(self, nodes: Sequence[Resources]) -> None:
        """Counts the slots of some nodes."""
        fit = capacity(nodes, per_gpu=self._per_gpu)
        self._slots = min(self._workers or fit, fit)
        # Where every place may be taken, the places bound what runs, and Tune may have the next bundle ready.
        self._desk.limit = None if self._slots == fit else self._slots
        self._next_look = time.monotonic() + LOOK_SECONDS

    def submit(self, bundle: Bundle) -> None:
        """Takes a bundle; Tune asks for it as soon as an actor may run it.

        Raises:
            InputError: where it wants a GPU, and this executor was opened for CPUs.
        """
        if bundle.device.startswith("cuda") and self._per_gpu is None:
            raise InputError(f"a bundle for {bundle.device} came to an executor for {self._device}")
        self._desk.put(bundle)

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to `timeout` seconds for at least one.

        Raises:
            LoopsweepError: where Tune itself failed, or actors die again and again before they can do anything.
        """
        events = self._desk.take(timeout)
        for reason in self._desk.refusals[self._told :]:
            self._say(f"{reason}; the others go on without it")
            self._told += 1
        if not events:
            if self._failure is not None:
                raise LoopsweepError(f"Ray Tune failed: {self._failure}")
            if self._desk.failed_starts >= max(START_FAILURES, self._slots + 1):
                raise LoopsweepError(f"actors cannot start on this cluster: {self._desk.last_death}")
        return events

    def stop(self, *, drain: bool) -> None:
        """No new units begin; running ones end at their next block and commit, or their actors end at once."""
        self._desk.close()
        with self._actors_lock:
            self._word = "drain" if drain else "kill"
            for actor in self._actors:
                _give(self._word, actor)

    def _met(self, actor: Any) -> None:
        """A fresh actor has given its handle."""
        with self._actors_lock:
            self._actors.append(actor)
            if self._word:
                _give(self._word, actor)

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
                param_space={"needs": self._needs, "looked_at": self._looked_at},
                tune_config=tune.TuneConfig(
                    search_alg=_Handout(self._desk, gpu_share(self._per_gpu) if self._per_gpu else 0.0),
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
                    callbacks=[_Listener(self._desk, self._met)],
                ),
            ).fit()
        except Exception as error:  # whatever it is, the driver must hear of it
            self._failure = reason_of(error)
        else:
            if not self._desk.closed:
                self._failure = "it ended while bundles were to come"


def start(*, workers: int | None = None, address: str | None = None, dashboard: bool = False) -> None:
    """Starts Ray on this machine, behind a token, or connects to the cluster at `address`; its workers run our code.

    Raises:
        InputError: where Ray is too old, or no cluster answers.
    """
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        raise InputError(f"--on ray needs ray >= {OLDEST[0]}.{OLDEST[1]}, got {ray.__version__}; upgrade it")
    if dashboard:
        try:
            importlib.import_module("ray.dashboard.optional_deps")
        except ImportError as error:
            message = f"needs what ray[default] installs ({error}); install it, or leave --dashboard out"
            raise InputError([Problem("--dashboard", message)]) from None
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is not None:
        options["address"] = address
    else:
        # Ray asks for a token by default. Ours is in the environment only: Ray's own would go to a file that others may
        # read. It stays set, since Ray reads it once per process.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options |= {
            "address": "local",
            "num_cpus": workers or available_cores(),
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": OBJECT_STORE_BYTES,
            # Ray replaces 127.0.0.1 by an address that others reach; all of 127/8 is loopback on Linux.
            "_node_ip_address": "127.0.0.2" if sys.platform == "linux" else "127.0.0.1",
        }
    with own_signals(), environment(_ENVIRONMENT), muted(), tempfile.TemporaryDirectory() as staged:
        ray_code.stage(Path(staged))  # Ray has packed it when `init` returns
        try:
            ray.init(**options, runtime_env={"working_dir": staged, "env_vars": ray_code.environment()})
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            where = "cannot start on this machine" if address is None else f"does not answer at {address!r}"
            raise InputError(f"Ray {where}: {reason_of(error)}") from None


def answer(address: str) -> None:
    """What a child of `sweeps.ray_address.reach` finds out about a cluster, as JSON: its versions, and ours."""
    found: dict[str, Any] = {"here": {"ray": ray.__version__, "python": platform.python_version()}}
    try:
        place = ray._private.services.canonicalize_bootstrap_address_or_die(address)
        known = json.loads(GcsClient(address=place).internal_kv_get(b"CLUSTER_METADATA", KV_NAMESPACE_CLUSTER))
        found["cluster"] = {"ray": known["ray_version"], "python": known["python_version"]}
    except Exception as error:  # whatever it is, the parent says it
        found["error"] = reason_of(error)
    print(json.dumps(found))


def _nodes() -> dict[str, Resources]:
    """What the nodes that are alive have, by Ray's id."""
    return {
        node["NodeID"]: Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    }


def _look_at(nodes: dict[str, Resources], needs: Needs) -> tuple[str, ...]:
    """Lets every node that could work say what it lacks; returns those that lack nothing.

    One that goes away meanwhile, or does not say, is none of them: actors there look for themselves.

    Raises:
        InputError: a line for each that lacks something, or cannot run our code.
    """
    looks = {
        node: _missing.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(needs)
        for node, has in nodes.items()
        if has.cpus >= 1
    }
    problems, sound = [], []
    for node, look in looks.items():
        try:
            lacks = ray.get(look, timeout=NODE_SECONDS)
        except (RayTaskError, RuntimeEnvSetupError) as error:
            lacks = f"node {node[:8]} cannot run our code: {reason_of(error)}"
        except RayError:
            continue
        if lacks is None:
            sound.append(node)
        else:
            problems.append(Problem("", lacks))
    if problems:
        raise InputError(problems)
    return tuple(sound)


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # Ray publishes no types
def _missing(needs: Needs) -> str | None:
    """What the node that this runs on lacks, by the node's name."""
    return _named(needs.missing())


def _named(lacks: str | None) -> str | None:
    """What a node lacks, with its name."""
    return None if lacks is None else f"node {platform.node()} ({ray.util.get_node_ip_address()}) {lacks}"


def _give(word: str, actor: Any) -> None:
    """Tells an actor to drain, or kills it."""
    if word == "kill":
        ray.kill(actor)
    else:
        actor.drain.remote()


# --- what Tune calls -------------------------------------------------------------------------------------------------


class _Handout(Searcher):  # type: ignore[misc]  # Ray publishes no types
    """Gives Tune the bundles of the desk."""

    def __init__(self, desk: Desk, gpu: float) -> None:
        super().__init__()
        self.desk = desk
        self.gpu = gpu

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        bundle = self.desk.hand_out(trial_id)
        if bundle is None:
            return str(Searcher.FINISHED) if self.desk.closed else None
        return {"parcel": Parcel(bundle), "gpu": self.gpu if bundle.device.startswith("cuda") else 0.0}

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

    def __init__(self, desk: Desk, met: Callable[[Any], None]) -> None:
        self.desk = desk
        self.met = met

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_more: Any) -> None:
        if (actor := result.get("actor")) is not None:
            self.met(actor)
        if (lacks := result.get("lacks")) is not None:
            self.desk.refuse(trial.trial_id, lacks)
        self.desk.hear(trial.config["parcel"].bundle.id, result["events"])

    def on_trial_complete(self, *, trial: Any, **_more: Any) -> None:
        self.desk.gone(trial.trial_id, "")
        _forget(trial)

    def on_trial_error(self, *, trial: Any, **_more: Any) -> None:
        told = Path(trial.error_file) if trial.error_file else None
        self.desk.gone(trial.trial_id, told.read_text() if told is not None and told.exists() else "")
        _forget(trial)

    def __reduce__(self) -> tuple[Any, ...]:
        return object, ()


def _forget(trial: Any) -> None:
    """Drops what is large of a trial that has ended: Tune keeps each one, with its bundle and histories of metrics."""
    trial.config["parcel"].bundle = None
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


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
        # Where several nodes share a machine, one that joins unpacks the code anew over the folder that this began in.
        os.chdir(tempfile.gettempdir())
        self._lacks: str | None = None
        if ray.get_runtime_context().get_node_id() not in config["looked_at"]:  # a node that joined later
            self._lacks = _named(config["needs"].missing())
        if self._lacks is None:
            prepare_process()
        self._draining = self._introduced = False
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next bundle, in the same process."""
        self._bundle: Bundle = new_config["parcel"].bundle
        self._root: str = new_config["needs"].root
        self._running: Running | None = None
        self._over = False
        return True

    def step(self) -> dict[str, Any]:
        """What happened since the last step, up to `STEP_SECONDS` of it.

        The events that end a bundle go in a step that is not the last, so that Tune already has the next bundle, and
        keeps this actor for it, when the trial ends.
        """
        if not self._introduced:
            self._introduced = True
            return {"actor": ray.get_runtime_context().current_actor, "lacks": self._lacks, "events": []}
        if self._lacks is not None:  # holds its place, so that no bundle comes here again
            time.sleep(STEP_SECONDS)
            return {"events": [], tune.result.DONE: self._draining}
        if self._over:
            return {"events": [], tune.result.DONE: True}
        if self._running is None:
            self._running = Running(self._bundle, self._root, draining=lambda: self._draining)
        events = self._running.step()
        self._over = self._running.over
        return {"events": events}

    def drain(self) -> None:
        """The running unit ends at its next block, no other begins; called by the driver between steps."""
        self._draining = True
