"""Several processes that train one model together, as torchrun starts them: the ranks, and what they say to each other.

Rank 0 leads: it alone opens the run, reads the shards, and writes metrics, checkpoints, ledger and model. The others need neither the
folder nor its key: they do what they are told (`together.py`), and compute their share of each step. Only of a sharded training, and where
they see the folder, they write their shares of checkpoints into files for which rank 0 gives them permits.

What is said are JSON and plain arrays, never a pickle. Nothing is encrypted on the way: docs/cluster.md.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Interrupted, MachineError, ShuyuanError, TrainError
from ..progress import Stop
from ..recipe import LABELLED_TASKS, Recipe
from .backend import Batch

if TYPE_CHECKING:
    from torch import Tensor

WAITING = timedelta(days=30)  # for an order: rank 0 may prepare records meanwhile
MEETING = timedelta(minutes=10)
STEPPING = timedelta(minutes=30)  # inside a step, where all are at work
SILENCE = 60  # seconds after which a machine that sends nothing, not even that it is there, is lost
BUCKET_BYTES = 32 << 20  # of gradients that are summed at once


@dataclass(frozen=True)
class Order:
    """What rank 0 tells the others to do."""

    word: str
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: Sequence[NDArray[Any]] = ()


class World:
    """The ranks that train together; by default this process alone.

    Args:
        number: of this rank.
        count: of all of them.
        stop: set where any rank is asked to stop.
        control: the group of processes in which orders are given.
    """

    def __init__(
        self, number: int = 0, count: int = 1, stop: threading.Event | None = None, control: Any = None
    ) -> None:
        self.number = number
        self.count = count
        self._stop = stop or threading.Event()
        self._control = control

    # -- orders --

    def tell(self, order: Order) -> None:
        """Gives an order to all other ranks."""
        kinds = [(str(array.dtype), array.shape) for array in order.arrays]
        head = np.frombuffer(json.dumps([order.word, order.facts, kinds]).encode(), np.uint8)
        self._carry(np.array([len(head)]))
        self._carry(head)
        for array in order.arrays:
            self._carry(array)

    def hear(self) -> Order:
        """Waits for the next order of rank 0."""
        length = int(self._carry(np.zeros(1, np.int64))[0])
        word, facts, kinds = json.loads(self._carry(np.zeros(length, np.uint8)).tobytes())
        return Order(word, facts, [self._carry(np.zeros(shape, kind)) for kind, shape in kinds])

    def _carry(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of rank 0, on all."""
        import torch
        import torch.distributed as dist

        if array.size:  # of its own, since what is read ahead may be read-only
            carried = torch.from_numpy(np.ascontiguousarray(array).view(np.uint8).copy())
            self._call(dist.broadcast, carried, 0, group=self._control)
            array = carried.numpy().view(array.dtype).reshape(array.shape)
        return array

    def answers(self, work: Callable[[], Any]) -> list[Any]:
        """Has each rank do some work, and waits for all of them; every rank calls it.

        Args:
            work: what this rank does; gives what JSON can hold.

        Returns:
            On rank 0 what all ranks gave, in order; nothing on the others.

        Raises:
            ShuyuanError: on rank 0, the first that any rank met.
        """
        answer: dict[str, Any]
        try:
            answer = {"gave": work()}
        except ShuyuanError as error:
            answer = {"kind": type(error).__name__, "error": error.as_dict()}
        if self.count == 1:
            return _checked([answer])
        answers = self._collect(json.dumps(answer).encode())
        return _checked(list(map(json.loads, answers))) if self.number == 0 else []

    def _collect(self, own: bytes) -> list[bytes]:
        """What each rank has to say; of all, on all."""
        import torch
        import torch.distributed as dist

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        self._call(dist.all_gather, lengths, torch.tensor([len(own)]), group=self._control)
        longest = int(max(lengths))
        said = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
        mine = torch.frombuffer(bytearray(own.ljust(longest)), dtype=torch.uint8)
        self._call(dist.all_gather, said, mine, group=self._control)
        return [each.numpy().tobytes()[: int(length)] for each, length in zip(said, lengths, strict=True)]

    # -- inside a step --

    def total(self, *values: float) -> list[float]:
        """The sum of each number over all ranks. Where one of them is asked to stop, all hear of it here."""
        if self.count == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        summed = torch.tensor([*values, float(self._stop.is_set())], dtype=torch.float64)
        self._call(dist.all_reduce, summed, group=self._control)
        *totals, stopping = summed.tolist()
        if stopping:
            self._stop.set()
        return totals

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sums float32 tensors over all ranks, in place. How they are cut follows from their shapes alone, and so do the bits."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._call(dist.all_reduce, flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Puts what rank 0 has into the tensors of all."""
        import torch.distributed as dist

        for tensor in tensors:
            self._call(dist.broadcast, tensor, 0)

    def _call(self, collective: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            collective(*arguments, **options)
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: BaseException) -> ShuyuanError:
        """The error of a rank that hears nothing of the others any more. That rank 0 ends when all are asked to stop is no wonder."""
        if self.number and self._stop.is_set():
            return Interrupted(
                "run.interrupted", "Interrupted.", mend="Nothing is lost; the same command goes on from here."
            )
        return MachineError(
            "train.rank-lost",
            f"Rank {self.number} of {self.count} has lost the others ({_last_line(error)}).",
            mend="See which rank ended, and why. The same command goes on from the last checkpoint; "
            "torchrun --max-restarts=3 gives it by itself.",
        )


def _checked(answers: list[dict[str, Any]]) -> list[Any]:
    kinds: dict[str, type[ShuyuanError]] = {kind.__name__: kind for kind in ShuyuanError.__subclasses__()}
    for answer in answers:
        if "error" in answer:
            error = answer["error"]
            raise kinds[answer["kind"]](
                error["code"], error["what"], mend=error["mend"], where=error["where"]
            )
    return [answer["gave"] for answer in answers]


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def share(batch: Batch, number: int, count: int) -> Batch:
    """The rows of a batch that fall to a rank: every so manieth, or all rows of every so manieth unit. There may be none."""
    if count == 1:
        return batch
    if batch.unit_B is None:
        return Batch(batch.step, batch.inputs_BT[number::count], batch.targets_BT[number::count])
    _, unit_B = np.unique(batch.unit_B, return_inverse=True)
    mine = unit_B % count == number
    return Batch(batch.step, batch.inputs_BT[mine], batch.targets_BT[mine], unit_B[mine] // count)


ALONE = World()
_joined = [ALONE]  # the newest one last


def world() -> World:
    """The ranks that this process belongs to."""
    return _joined[-1]


def check_ranks(recipe: Recipe) -> None:
    """Refuses a recipe that several processes cannot train together.

    Args:
        recipe: as asked or as resolved.

    Raises:
        TrainError: its family is trained by one process, or a step has fewer rows than there are ranks.
    """
    count, rows = world().count, recipe.train.batch_size
    if count > 1 and recipe.model.family == "rnn":
        raise TrainError(
            "train.one-process",
            f"A model of the family rnn is trained by one process, and there are {count}.",
            where="model.family",
            mend="Start it without torchrun, or choose another family.",
        )
    if recipe.privacy is None and rows != "auto" and rows < count:
        raise TrainError(
            "train.few-rows",
            f"A step has {rows} rows, and there are {count} ranks.",
            where="train.batch_size",
            mend="Raise it, or start fewer processes.",
        )


def check_sharded(recipe: Recipe) -> None:
    """Refuses `train.sharded` where weights cannot be divided among ranks.

    Raises:
        TrainError: there is one process, or the recipe asks for something that needs all weights in one place.
    """
    train = recipe.train
    if not train.sharded:
        return
    why = None
    if world().count == 1:
        why = "there is one process, and nobody to share with"
    elif (
        recipe.model.family != "transformer"
        or recipe.model.from_ is not None
        or recipe.task in LABELLED_TASKS
    ):
        why = "the built-in transformer that writes, begun from nothing, is what can be divided"
    elif train.distill is not None:
        why = "a teacher is not divided"
    elif train.precision == "fp16":
        why = "a loss scale is kept by each rank; bf16 and fp32 need none"
    if why:
        raise TrainError(
            "train.not-sharded",
            f"This training cannot be sharded: {why}.",
            where="train.sharded",
            mend="Leave train.sharded out, or change that.",
        )


@contextmanager
def joined(stop: Stop) -> Iterator[World]:
    """Joins the processes that torchrun started, until the work is done; alone, where it started none or one.

    Whoever is not rank 0 follows it in here, and has nothing to do any more when this begins.

    Args:
        stop: set where the run is to be saved and ended; it may be set on any rank.

    Raises:
        MachineError: the other ranks are not there, or are lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    import torch.distributed as dist

    from .together import follow

    world = _join(int(os.environ["RANK"]), count, stop)
    _joined.append(world)
    try:
        if world.number:
            with stop.gently():
                follow(world)
        yield world
        _dismiss(world)
    except ShuyuanError as error:
        if error.code in ("train.rank-lost", "run.interrupted"):  # nobody is there to hear it
            raise
        _dismiss(world)
        raise
    finally:
        _joined.pop()
        dist.destroy_process_group()


def _dismiss(world: World) -> None:
    if world.number == 0:
        world.tell(Order("end"))


def _join(number: int, count: int, stop: Stop) -> World:
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", number, count, timeout=MEETING))
        store = PrefixStore(meet(store, number, count), store)
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=STEPPING)
        control = dist.new_group(backend="gloo", timeout=WAITING)
        _ask_for_signs_of_life()
        return World(number, count, stop, control)
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            "train.no-meeting",
            f"Rank {number} of {count} cannot meet the others ({_last_line(error)}).",
            mend="Start all of them with torchrun, with an address that every machine can reach; GLOO_SOCKET_IFNAME and "
            "NCCL_SOCKET_IFNAME name the network to use.",
        ) from error


def _ask_for_signs_of_life() -> None:
    """Has the system ask along each connection whether the other machine is there: whoever only waits would never see that a cable is cut.

    gloo gives its connections no such setting, and nobody its connections; so all that this process has get it.
    """
    if sys.platform != "linux":
        return
    waits = {
        socket.TCP_KEEPIDLE: SILENCE // 3,
        socket.TCP_KEEPINTVL: SILENCE // 6,  # four times: as long as SILENCE together
        socket.TCP_KEEPCNT: 4,
        socket.TCP_USER_TIMEOUT: SILENCE * 1000,  # milliseconds, also for what was sent
    }
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        with suppress(OSError):  # closed meanwhile, or between processes of this machine
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    for option, wait in waits.items():
                        connection.setsockopt(socket.IPPROTO_TCP, option, wait)


def meet(store: Any, number: int, count: int) -> str:
    """A name for this meeting, the same on all ranks.

    torchrun keeps its store when it starts the ranks anew, and what stands in it may be of ranks that are gone. So rank 0 names the
    meeting after a random number, each of the others answers with one of its own, and the meeting begins when all of these are read.

    Args:
        store: of torch.distributed, which all ranks see.
        number: of this rank.
        count: of all of them.

    Raises:
        RuntimeError: the others have not come within MEETING.
    """
    own, until = os.urandom(16).hex(), time.monotonic() + MEETING.total_seconds()
    if number == 0:
        answers = [f"{own}/{other}" for other in range(1, count)]
        store.set("shuyuan", own)
        store.wait(answers, MEETING)
        store.set(f"{own}/begun", " ".join(store.get(answer).decode() for answer in answers))
        return own
    while time.monotonic() < until:
        name: str = store.get("shuyuan").decode()
        store.set(f"{name}/{number}", own)
        time.sleep(0.05)
        if store.check([f"{name}/begun"]) and own in store.get(f"{name}/begun").decode().split():
            return name
    raise RuntimeError("rank 0 has not come")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:120]
