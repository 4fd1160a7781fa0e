"""One step in PyTorch: forward, backward, clipping, update. The driver calls it and knows no torch.

Shapes: B sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import hardware as machines
from ..errors import TrainError
from ..models.digest import digest_of
from ..models.frozen import frozen_layers
from ..models.lora import is_adapter
from ..recipe import Train
from .backend import OVERFLOW, Arrays, Batch, Figures, StepByStep, learned, shape_alone
from .blocks import checkpoint_blocks, plain_blocks
from .compiling import compile_blocks
from .distill import Distillation
from .distributed import ALONE, World, share
from .memory import peak_memory, return_arrays
from .micro_batches import micro_batches
from .optimizers import Optimizers, Whole
from .precision import Precision

FROZEN, TEACHER = "frozen", "teacher"
# Weights that a state holds a digest of, since they are those that training began with.
_DIGESTS = {FROZEN: ("model.from", "The model to start from"), TEACHER: ("train.distill.from", "The teacher")}


class Trainable(Protocol):
    """What the backend asks of a model, besides being an `nn.Module`."""

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The sum of the cross entropies of all targets that are not -100, in nats: a float32 scalar."""
        ...


class TorchBackend(StepByStep):
    """Trains a model step by step.

    Args:
        model: an `nn.Module` with a `loss` as in `Trainable`; it is moved to the device.
        train: the recipe's section, resolved.
        hardware: where it runs.
        teacher: whose loss is learned instead of the model's own; validation stays with that.
        ranks: those that train this model, each in a process of its own, and call the same methods with the same batches.
    """

    sharded = False  # whether each rank holds but a share of the weights

    def __init__(
        self,
        model: Any,
        train: Train,
        hardware: machines.Hardware,
        teacher: Distillation | None = None,
        ranks: World = ALONE,
    ) -> None:
        if train.precision == "auto" or train.micro_batch == "auto":
            raise ValueError("the recipe is not resolved")
        if train.optimizer == "auto" or train.weight_decay == "auto":
            raise ValueError("the recipe is not resolved")
        self.device: str = hardware.device
        self.model: nn.Module = model.to(self.device)
        self.parameters = _parameters(self.model)
        if train.compile:
            compile_blocks(self.model, self.device)
        if train.activation_checkpointing:
            checkpoint_blocks(self.model)
            return_arrays()
        self._loss = model.loss
        self._teacher = teacher
        self._ranks = ranks
        self._seed = torch.initial_seed()
        self._micro_batch = train.micro_batch
        self._grad_clip = train.grad_clip or math.inf
        self._precision = Precision(train.precision, self.device)
        muon_dtype = (
            torch.bfloat16 if machines.choose_precision("auto", hardware) == "bf16" else torch.float32
        )
        learners, whole = self._learners()
        self._optimizers = Optimizers(learners, train.optimizer, train.weight_decay, muon_dtype, whole)
        self._frozen = _frozen(self.model) | _taught_by(teacher)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    # -- the work --

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step. With a non-finite loss or gradient the weights stay as they are, and the figures say so.

        Args:
            batch: computed at most `micro_batch` sequences at a time; each target has the same weight, wherever it falls.
            learning_rate: for all parameters.
        """
        self._begin(batch)
        self._zero_gradients()
        targets = max(1, int(learned(batch.targets_BT).sum()))
        total = torch.zeros((), device=self.device)
        for part in self._parts(batch):
            loss = self._loss_of(part, self._teacher.loss if self._teacher else self._loss)
            self._precision.backward(loss / targets)
            total += loss.detach()
        loss_mean = self._ranks.total(total.item())[0] / targets
        self._add_up()
        self._precision.unscale(self._optimizers.all)
        norm = self._clip()
        finite = math.isfinite(norm) and math.isfinite(loss_mean)
        if finite:
            self._optimizers.step(learning_rate)
        overflowed = self._precision.update()
        return Figures(loss_mean, norm, targets, None if finite else _why(loss_mean, overflowed))

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over the targets of all batches, in nats; the state stays as it is."""
        self.model.eval()
        total, targets = 0.0, 0
        with torch.no_grad():
            for batch in batches:
                total += sum(self._loss_of(part, self._loss).item() for part in self._parts(batch))
                targets += int(learned(batch.targets_BT).sum())
        return self._ranks.total(total)[0] / max(1, targets)

    def _begin(self, batch: Batch) -> None:
        """Before each step. On several ranks, what is left out at random follows from step and rank alone: no state can tell of them all."""
        self.model.train()
        if self._ranks.count > 1:
            place = np.random.SeedSequence((self._seed, batch.step, self._ranks.number))
            torch.manual_seed(int(place.generate_state(1, np.uint64)[0]))

    def _share(self, batch: Batch) -> Batch:
        return share(batch, self._ranks.number, self._ranks.count)

    def _loss_of(self, batch: Batch, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        with self._precision.autocast():
            loss: Tensor = loss_of(self._put(batch.inputs_BT), self._put(batch.targets_BT))
        return loss

    def _put(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device == "cuda" else tensor

    def _clip(self) -> float:
        """Cuts the gradient to its largest allowed norm, and returns the norm that it had."""
        gradients = self._gradients()
        norm = self._norm(gradients)
        if norm > self._grad_clip and norm.isfinite():
            torch._foreach_mul_(gradients, self._grad_clip / norm)
        return norm.item()

    # -- where weights and rows lie --

    def _learners(self) -> tuple[nn.Module, Whole | None]:
        """Whose parameters the optimizer steps, and how their rows are gathered."""
        return self.model, None

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        return micro_batches(self._share(batch), self._micro_batch)

    def _zero_gradients(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def _add_up(self) -> None:
        """Sums the gradients of all ranks."""
        self._ranks.add_up(self._gradients())

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        norm: Tensor = nn.utils.get_total_norm(gradients)
        return norm

    def _gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self._optimizers.parameters() if weight.grad is not None]

    # -- the state --

    def state(self) -> Arrays:
        """Everything that the next step depends on, by name. On a CPU the arrays are the live ones, not copies."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._tensors().items()}

    def layout(self) -> Arrays:
        """Names, shapes and types of a state, in arrays that take no memory."""
        return {name: layout_of(tensor, tensor.shape) for name, tensor in self._tensors().items()}

    def load(self, arrays: Arrays) -> None:
        """Goes on from a `state` with the same names, shapes and types.

        Raises:
            TrainError: the frozen weights are others than those that training began with.
        """
        for name, (key, what) in _DIGESTS.items():
            if name in self._frozen and not np.array_equal(arrays[name], self._frozen[name].numpy()):
                raise TrainError(
                    "train.other-start",
                    f"{what} has changed since training began, and the checkpoint does not hold it.",
                    where=key,
                    mend="Put the old weights back, or begin a new run in another folder.",
                )
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(torch.from_numpy(arrays[name].copy()))
        self._precision.load(
            {key: torch.from_numpy(arrays[f"scaler.{key}"].copy()) for key in self._precision.state()}
        )
        torch.set_rng_state(torch.from_numpy(arrays["random.cpu"].copy()))
        if self.device == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(arrays["random.cuda"].copy()))

    def agree(self) -> None:
        """Every rank goes on from the weights and the optimizer's state of rank 0."""
        scale = self._precision.state()
        tensors = [*self.model.parameters(), *self.model.buffers(), *self._optimizers.tensors().values()]
        self._ranks.spread([tensor.detach() for tensor in (*tensors, *scale.values())])
        self._precision.load(scale)

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {
            f"weights.{name}": weight
            for name, weight in self.model.named_parameters()
            if weight.requires_grad
        }
        tensors |= self._frozen
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizers.tensors().items()}
        tensors |= {f"scaler.{key}": tensor for key, tensor in self._precision.state().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        return tensors

    def peak_bytes(self) -> int:
        """The most memory used so far: of the GPU, or of this process."""
        return peak_memory(self.device)

    def close(self) -> None:
        """Leaves the model as an ordinary one."""
        plain_blocks(self.model)


def layout_of(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    """Type and shape of a tensor, in an array that takes no memory."""
    return shape_alone(torch.empty((), dtype=tensor.dtype).numpy(), shape)


def _parameters(model: nn.Module) -> int:
    """Of the finished model: those that are kept as codes count, adapters do not."""
    coded = sum(layer.numbers for _, layer in frozen_layers(model))
    return coded + sum(weight.numel() for name, weight in model.named_parameters() if not is_adapter(name))


def _frozen(model: nn.Module) -> dict[str, Tensor]:
    """What a state holds in place of frozen weights, which are those that training began with: a digest of them, codes included."""
    weights = ((name, weight) for name, weight in model.named_parameters() if not weight.requires_grad)
    codes = (
        (f"{name}.{part}", tensor)
        for name, layer in frozen_layers(model)
        for part, tensor in layer.named_buffers()
    )
    if all(weight.requires_grad for weight in model.parameters()):
        return {}
    digest = digest_of(chain(weights, codes))
    return {FROZEN: torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8)}


def _taught_by(teacher: Distillation | None) -> dict[str, Tensor]:
    if teacher is None:
        return {}
    return {TEACHER: torch.frombuffer(bytearray.fromhex(teacher.digest), dtype=torch.uint8)}


def _why(loss: float, overflowed: bool) -> str:
    if not math.isfinite(loss):
        return "the loss is not finite"
    return OVERFLOW if overflowed else "the gradient is not finite"
