"""Training of a model of which every rank holds a share: of each weight, its gradient and its optimizer's state (FSDP2).

A block's weights are whole while it is computed. Its gradients are summed over the
ranks in float32, each rank getting those of its own rows, and are divided once, like everywhere, by the targets of the whole batch.

States are those of one process, by name and shape. Where all ranks see the run's folder, each writes its own share of them, and reads it back;
else rank 0 gathers a tensor at a time, and sends each rank its rows of it.

Reference: Zhao et al. 2023, PyTorch FSDP (arXiv 2304.11277).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard

from .. import hardware as machines
from ..data import NOTHING
from ..recipe import Train
from ..vault import Permit
from .backend import Arrays, Batch, Figures, OneByOne
from .distributed import World, share
from .micro_batches import micro_batches
from .optimizers import Whole
from .share_files import read_shares, write_share
from .stored import File, Stored, shares_for
from .torch_backend import TorchBackend, layout_of

RANDOM_STATE = "random.cpu"  # rank 0's: in a step, each follows from step and rank


class ShardedBackend(TorchBackend):
    """Trains a transformer in shares. The same methods are called on all ranks, in the same order; `load` on rank 0 before `agree`.

    Args:
        model: whole; that of rank 0 gets the trained weights at the end.
        train: the recipe's section, resolved.
        hardware: where it runs.
        ranks: that hold a share each.
        private: what private steps take besides.
    """

    sharded = True
    _entry = "loss"  # the method of the model that a step begins with

    def __init__(
        self, model: Any, train: Train, hardware: machines.Hardware, ranks: World, **private: Any
    ) -> None:
        self._whole = model
        self._shares = Shares(divided(model, hardware.device, self._entry), ranks)
        super().__init__(self._shares.model, train, hardware, ranks=ranks, **private)
        self._source: Arrays | None = None

    # -- a step --

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step of all ranks.

        Raises:
            MachineError: the others are lost, also where FSDP2 noticed it.
        """
        with self._hearing():
            return super().step(batch, learning_rate)

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Says of others that are lost while weights are gathered what is said of them elsewhere."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise self._ranks.lost(error) from error

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        return self._even(batch, micro_batches)

    def _even(self, batch: Batch, cut: Callable[[Batch, int], Iterator[Batch]]) -> Iterator[Batch]:
        """As many parts on each rank, since each gathers weights: those that have fewer compute some more, and learn nothing from them."""
        count = self._ranks.count
        parts = [list(cut(share(batch, number, count), self._micro_batch)) for number in range(count)]
        own = parts[self._ranks.number]
        yield from own
        for _ in range(len(own), max(map(len, parts))):
            yield _idle(batch)

    def _zero_gradients(self) -> None:
        super()._zero_gradients()
        self._shares.forget_gradients()

    def _add_up(self) -> None:
        """The backward pass has done so."""
        self._shares.take_gradients()

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        square = math.fsum(float(gradient.double().square().sum()) for gradient in gradients)
        return torch.tensor(math.sqrt(self._ranks.total(square)[0]))

    def _learners(self) -> tuple[nn.Module, Whole]:
        return self._shares, self._shares

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over the targets of all batches, in nats; the state stays as it is."""
        with self._hearing():
            loss = super().evaluate(batches)
        self._shares.let_go()
        return loss

    # -- the state --

    def state(self) -> Arrays:
        """Everything that the next step depends on, by name; each tensor is gathered when it is asked for, by all ranks alike."""
        return OneByOne(self._tensors(), self.gathered)

    def gathered(self, name: str) -> NDArray[Any]:
        """One tensor of the state, whole on rank 0; the others give their rows, and get nothing."""
        return self._shares.gather_named(name, self._tensors()[name]).cpu().numpy()

    def layout(self) -> Arrays:
        """Names, shapes and types of a state, in arrays that take no memory."""
        return {
            name: layout_of(tensor, self._shares.shape(name) or tensor.shape)
            for name, tensor in self._tensors().items()
        }

    def write(self, permit: Permit) -> tuple[str, int]:
        """Writes this rank's share of the state; digest and bytes of its file."""
        return write_share(self._own_state(), permit)

    def read(self, files: Sequence[File], where: str) -> None:
        """Goes on from a checkpoint in shares: this rank from its rows, rank 0 also from what is not divided, until `spread`.

        Args:
            files: of all shares.
            where: the checkpoint.

        Raises:
            TrainError: a file in which rows of this rank lie is damaged, or does not fit the model.
        """
        self._shares.let_go()
        layout, ranks = self.layout(), self._ranks
        needed = shares_for(layout, ranks.number, ranks.count, len(files))
        stored = Stored([files[number] for number in sorted(needed)], len(files), layout, where)
        stored.open()
        state = self._own_state()
        read_shares(state, stored)
        if RANDOM_STATE in state:
            torch.set_rng_state(state[RANDOM_STATE])

    def spread(self) -> None:
        """Every rank gets what is not divided, as rank 0 has read it."""
        whole = [
            tensor
            for name, tensor in self._tensors().items()
            if name != RANDOM_STATE and self._shares.shape(name) is None
        ]
        self._ranks.spread(whole)

    def _own_state(self) -> dict[str, Tensor]:
        """This rank's part of the state, as torch.distributed.checkpoint knows shares; what is not divided is rank 0's."""
        found = {}
        for name, tensor in self._tensors().items():
            shape = self._shares.shape(name)
            if shape is not None and len(tensor):
                found[name] = self._shares.placed(tensor, shape)
            elif shape is None and self._ranks.number == 0:
                found[name] = tensor
        return found

    def load(self, arrays: Arrays) -> None:
        """Has `agree` go on from a state of rank 0."""
        self._source = arrays
        torch.set_rng_state(torch.from_numpy(arrays[RANDOM_STATE].copy()))

    def agree(self) -> None:
        """Every rank gets its share of what rank 0 has: the whole model at first, a state later."""
        self._shares.let_go()
        for name, tensor in self._tensors().items():
            if name != RANDOM_STATE:
                self._shares.spread(name, tensor, self._known(name) if self._ranks.number == 0 else None)
        self._source = None
        for weight in self._whole.parameters():
            weight.data = weight.new_empty(0)  # nobody has use for all of them before the end

    def _known(self, name: str) -> Tensor | None:
        """What rank 0 has of a tensor; nothing of an optimizer that is new."""
        if self._source is not None:
            return torch.from_numpy(self._source[name].copy())
        kind, _, parameter = name.partition(".")
        weight: Tensor | None = self._whole.get_parameter(parameter) if kind == "weights" else None
        return weight

    def _tensors(self) -> dict[str, Tensor]:
        """The shares of this rank, by the names that a state has."""
        tensors = {f"weights.{name}": weight.detach() for name, weight in self._shares.named_parameters()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizers.tensors().items()}
        tensors[RANDOM_STATE] = torch.get_rng_state()
        return tensors

    def close(self) -> None:
        """Puts the trained weights into the model of rank 0."""
        for name, tensor in self._shares.named_parameters():
            whole = self._shares.gather_named(f"weights.{name}", tensor.detach())
            if self._ranks.number == 0:
                self._whole.get_parameter(name).data = whole.cpu()


class Shares(Whole):
    """This rank's rows of each parameter, as parameters that an optimizer takes.

    Args:
        model: sharded.
        ranks: that hold a share each.
    """

    def __init__(self, model: nn.Module, ranks: World) -> None:
        super().__init__()
        self.model = model
        self.new = getattr(model, "new", None)
        self._ranks = ranks
        self._named = {
            name: nn.Parameter(weight.to_local().detach())  # type: ignore[attr-defined]  # a DTensor
            for name, weight in model.named_parameters()
        }
        self._shapes = {name: weight.shape for name, weight in model.named_parameters()}
        self._names = {id(weight): name for name, weight in self._named.items()}
        self._mesh: Any = next(iter(model.parameters())).device_mesh  # type: ignore[attr-defined]

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """By the names that they have in the model."""
        yield from self._named.items()

    def let_go(self) -> None:
        """Of whole weights that a forward pass without a backward one has kept."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def forget_gradients(self) -> None:
        """Before a step."""
        for weight in self._named.values():
            weight.grad = None

    def take_gradients(self) -> None:
        """After the backward pass: the sums over all ranks, of this rank's rows."""
        for name, weight in self.model.named_parameters():
            if weight.grad is not None:
                self._named[name].grad = weight.grad.to_local()  # type: ignore[attr-defined]

    def set_gradient(self, name: str, gradient: Tensor) -> None:
        """That of this rank's rows."""
        self._named[name].grad = gradient

    def gather(self, weight: Tensor, tensor: Tensor) -> Tensor:
        """All rows of something that lies as a parameter does."""
        return self._gather(tensor, self.shape_of(weight))

    def own(self, weight: Tensor, tensor: Tensor) -> Tensor:
        """This rank's rows of it."""
        height = self._height(len(tensor))
        return tensor[self._ranks.number * height :][: len(weight)]

    def placed(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        """This rank's rows of something that is divided, with their place in the whole of that shape."""
        stride = torch.empty(shape, device="meta").stride()
        own: Tensor = DTensor.from_local(
            tensor, self._mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
        )
        return own

    def shape_of(self, weight: Tensor) -> torch.Size:
        """The shape of the whole."""
        return self._shapes[self._names[id(weight)]]

    def add_up(self, name: str, whole: Tensor) -> Tensor:
        """The sum over all ranks of what each has of a parameter; each gets its own rows of it."""
        height = self._height(len(whole))
        padded = whole.new_zeros((height * self._ranks.count, *whole.shape[1:]))
        padded[: len(whole)] = whole
        own = padded.new_empty((height, *whole.shape[1:]))
        self._ranks._call(dist.reduce_scatter, own, list(padded.chunk(self._ranks.count)))
        return own[: len(self._named[name])]

    def whole_shape(self, name: str) -> torch.Size:
        """Of a parameter, over all ranks."""
        return self._shapes[name]

    def first(self, name: str) -> int:
        """The place of this rank's first element in a parameter."""
        shape = self._shapes[name]
        return self._ranks.number * self._height(shape[0]) * shape[1:].numel()

    def gather_named(self, name: str, tensor: Tensor) -> Tensor:
        """All rows of a tensor of a state, on rank 0, and none elsewhere; what is not divided is the same on all."""
        shape = self.shape(name)
        if shape is None:
            return tensor
        own, here = self._padded(tensor, shape), self._ranks.number == 0
        whole = own.new_empty((len(own) * self._ranks.count if here else 0, *shape[1:]))
        self._ranks._call(dist.gather, own, list(whole.chunk(self._ranks.count)) if here else None)
        return whole[: shape[0]]

    def spread(self, name: str, tensor: Tensor, whole: Tensor | None) -> None:
        """Each rank gets its rows of what rank 0 has; zeros, where it has nothing."""
        shape = self.shape(name)
        if shape is None:
            if whole is not None:
                tensor.copy_(whole)
            self._ranks.spread([tensor])
            return
        own, parts = self._padded(tensor, shape), None
        if self._ranks.number == 0:
            all_rows = own.new_zeros((len(own) * self._ranks.count, *shape[1:]))
            if whole is not None:
                all_rows[: shape[0]] = whole.detach()
            parts = list(all_rows.chunk(self._ranks.count))
        self._ranks._call(dist.scatter, own, parts)
        tensor.copy_(own[: len(tensor)])

    def shape(self, name: str) -> torch.Size | None:
        """Of the whole of a tensor of a state; None where it is not divided."""
        kind, _, rest = name.partition(".")
        parameter, _, word = rest.rpartition(".")
        if kind == "weights":
            return self._shapes[rest]
        return self._shapes[parameter] if kind == "optimizer" and word != "step" else None

    def _gather(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        padded = self._padded(tensor, shape)
        parts = [torch.empty_like(padded) for _ in range(self._ranks.count)]
        self._ranks._call(dist.all_gather, parts, padded)
        return torch.cat(parts)[: shape[0]]

    def _padded(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        """This rank's rows, and zeros where it has fewer than the first one."""
        padded = tensor.new_zeros((self._height(shape[0]), *shape[1:]))
        padded[: len(tensor)] = tensor
        return padded

    def _height(self, rows: int) -> int:
        """Rows that each rank has, as FSDP2 divides them; the last ones have fewer, or none."""
        return -(-rows // self._ranks.count)


def _idle(batch: Batch) -> Batch:
    """A row that nobody learns."""
    units = None if batch.unit_B is None else np.zeros_like(batch.unit_B[:1])
    rows = np.zeros_like(batch.inputs_BT[:1]), np.full_like(batch.targets_BT[:1], NOTHING)
    return Batch(batch.step, *rows, units)


def divided(model: nn.Module, device: str, entry: str = "loss") -> nn.Module:
    """A copy of a model of whose weights this rank has its rows, on the device, gathered where `entry` is called; what is tied stays tied."""
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    # Its weights are empty, and fill no memory before they are written: what a rank gets of them comes from rank 0.
    empty: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty_like(weight)) for weight in model.parameters()
    }
    found: Any = copy.deepcopy(model, empty)
    for block in found.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(found, mesh=mesh, mp_policy=policy)
    compute = getattr(found, entry)
    setattr(found, entry, lambda *given: compute(*given).clone())  # FSDP2 wants no view of something else
    register_fsdp_forward_method(found, entry)
    for module in found.modules():
        if isinstance(module, FSDPModule):  # sums, not means: the batch's targets divide
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    whole: nn.Module = found
    return whole
