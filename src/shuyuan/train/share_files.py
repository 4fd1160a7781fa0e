"""How a rank writes its share of a checkpoint, and reads the rows that it needs, through torch.distributed.checkpoint.

That library plans what goes where: which rows a rank has, and from which files it reads them when there are other ranks than then. What it
would do by default is left out, since it pickles: its own storage and metadata, and its talk between ranks. Each rank plans for
itself (`no_dist`), the storage is ours, and which shares there are is told in JSON (`together.py`, `checkpoints.py`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from ..models.layout import head_of
from ..vault import Permit, Writer
from .backend import shape_alone
from .stored import Piece, Stored

State = dict[str, Tensor]  # what is divided, as DTensors


def write_share(state: State, permit: Permit) -> tuple[str, int]:
    """Writes what this rank has, a tensor at a time.

    Args:
        state: this rank's part of it, none without rows.
        permit: for the file.

    Returns:
        SHA-256 of its content, in hex, and its bytes.

    Raises:
        MachineError: the disk refuses.
    """
    storage = _ShareWriter(permit)
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    with _alone():
        save(state, storage_writer=storage, planner=planner, no_dist=True)
    return storage.digest.hexdigest(), storage.size


def read_shares(state: State, stored: Stored) -> None:
    """Reads into what this rank has, a tensor at a time, from as many shares as there were then.

    Args:
        state: as of `write_share`.
        stored: opened, with all files in which rows of it lie.

    Raises:
        ShuyuanError: a file cannot be read any more.
    """
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    with _alone():
        load(state, storage_reader=_ShareReader(stored), planner=planner, no_dist=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Without the library's warning that ranks do not talk, and with the errors themselves, not its words for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from None


class _ShareWriter(StorageWriter):
    """One safetensors file: its header first, for which shapes suffice, and then a tensor after the other."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit
        self.digest = hashlib.sha256()
        self.size = 0

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        items = {item.index.fqn: item for item in plan.items}
        names, head = head_of({name: _layout(item) for name, item in items.items()})
        with self._permit.writer() as out:
            self._write(out, head)
            for name in names:
                tensor = planner.resolve_data(items[name])
                assert isinstance(tensor, Tensor)  # there is nothing else in a state
                self._write(
                    out, tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
                )
        done: Future[list[WriteResult]] = Future()
        done.set_result([])
        return done

    def _write(self, out: Writer, content: bytes | memoryview) -> None:
        out.write(content)
        self.digest.update(content)
        self.size += len(content)

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def set_up_storage_writer(self, is_coordinator: bool, *_: Any, **__: Any) -> None: ...

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return plans

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Rank 0 commits, when it has heard of all."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


class _ShareReader(StorageReader):
    """Files whose headers were checked against the shares that they are."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._pieces: dict[tuple[str, int], Piece] = {
            (name, piece.first): piece for name, pieces in stored.pieces.items() for piece in pieces
        }

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        return Metadata({name: self._told(name) for name, pieces in self._stored.pieces.items() if pieces})

    def _told(self, name: str) -> TensorStorageMetadata:
        like = self._stored.like(name)
        rest = like.shape[1:]
        chunks = [
            ChunkStorageMetadata(
                torch.Size([piece.first, *(0 for _ in rest)] if like.shape else []),
                torch.Size(piece.place.shape),
            )
            for piece in self._stored.pieces[name]
        ]
        kind = torch.from_numpy(like[:0].copy() if like.shape else like.copy()).dtype
        return TensorStorageMetadata(TensorProperties(kind), torch.Size(like.shape), chunks)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            offset = item.storage_index.offset
            piece = self._pieces[item.storage_index.fqn, offset[0] if offset else 0]
            target = planner.resolve_tensor(item).detach()
            rows = (item.storage_offsets[0], item.lengths[0]) if item.lengths else ()
            target.copy_(torch.from_numpy(self._stored.read(piece, *rows)))
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_: Any, **__: Any) -> None: ...

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


def _layout(item: WriteItem) -> Any:
    """Type and shape of what is written."""
    data = item.tensor_data
    assert data is not None  # there is nothing else in a state
    return shape_alone(torch.empty((), dtype=data.properties.dtype).numpy(), tuple(data.chunk.sizes))
