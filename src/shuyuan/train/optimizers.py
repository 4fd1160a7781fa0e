"""Optimizers: Muon for the matrices inside the blocks with AdamW for all else, AdamW alone, or SGD.

State is made before the first step, so that a checkpoint has the same arrays at every step and memory shows its
peak from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from ..models import ImageClassifier, NgramClassifier, in_block

BETAS = (0.9, 0.95)
MUON_MOMENTUM = 0.95
SGD_MOMENTUM = 0.9
# How many times the learning rate embeddings, head and norms get: rows of rare words are seldom visited, and a matrix's
# rate would leave them where they began.
OUTSIDE_RATE = {"muon": 8.0, "adamw": 8.0, "sgd": 1.0}
# Newton-Schulz coefficients and the number of iterations of Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Numbers of matrices of one shape that are iterated at once: many small ones take half to a fifth of the time that they take singly.
STACKED = {"cpu": 2**20, "cuda": 2**24}

Group = dict[str, Any]  # a parameter group, as torch's optimizers take it
State = dict[str, Tensor]  # of one parameter


class Optimizer:
    """Updates groups of parameters; torch's arithmetic without its class, whose first group loads torch's compiler (70 MB).

    State is made before the first step, zeros where torch would put them at its own first.

    Args:
        groups: each with "params".

    Attributes:
        param_groups: the groups; "lr" is the learning rate of the next step.
        state: tensors by parameter and torch's own word.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.param_groups: list[Group] = [{"lr": 0.0} | group for group in groups]
        self.state = {weight: self.zeros(weight) for group in groups for weight in group["params"]}

    @torch.no_grad()
    def step(self) -> None:
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [weight.grad for weight in weights]
            state = [self.state[weight] for weight in weights]
            self.update(weights, gradients, state, group["lr"])

    def zeros(self, weight: Tensor) -> State:
        """The state of a parameter before its first step."""
        return {"momentum_buffer": torch.zeros_like(weight)}

    def update(self, weights: list[Tensor], gradients: list[Tensor], state: list[State], rate: float) -> None:
        """One step of the parameters of one group."""
        raise NotImplementedError


class Whole(nn.Module):
    """Where the rows of a parameter lie: all of them here. `sharded.Shares` knows of others on other ranks."""

    def gather(self, weight: Tensor, tensor: Tensor) -> Tensor:
        """All rows of something that lies as a parameter does."""
        return tensor

    def own(self, weight: Tensor, tensor: Tensor) -> Tensor:
        """The rows of it that lie here."""
        return tensor

    def shape_of(self, weight: Tensor) -> torch.Size:
        """The shape of the whole."""
        return weight.shape


class Muon(Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz iterations, at the root mean square of AdamW's.

    The same update as `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, which iterates in bfloat16 on every machine;
    a processor without bf16 instructions is many times slower at that than in float32, hence `dtype`.

    Args:
        groups: of matrices.
        dtype: the format of the iterations.
        whole: gathers a matrix whose rows lie on several ranks; each of them iterates the whole.

    Reference: Liu et al. 2025, Muon is Scalable for LLM Training (arXiv 2502.16982).
    """

    def __init__(self, groups: Sequence[Group], dtype: torch.dtype, whole: Whole | None = None) -> None:
        super().__init__(groups)
        self.dtype = dtype
        self.whole = whole or Whole()

    def update(self, weights: list[Tensor], gradients: list[Tensor], state: list[State], rate: float) -> None:
        for alike in self._alike(weights):
            mixed_NRC = torch.stack([self._mixed(weights[n], gradients[n], state[n]) for n in alike])
            for n, update_RC in zip(alike, orthogonal(mixed_NRC, self.dtype), strict=True):
                weight = weights[n]
                weight.add_(
                    self.whole.own(weight, update_RC).view_as(weight),
                    alpha=-0.2 * rate * math.sqrt(max(update_RC.shape)),
                )

    def _mixed(self, weight: Tensor, gradient: Tensor, own: State) -> Tensor:
        """Nesterov's mix of gradient and momentum, as a matrix: a convolution is the one that takes each patch to its outputs."""
        momentum = own["momentum_buffer"].lerp_(gradient, 1 - MUON_MOMENTUM)
        return self.whole.gather(weight, gradient.lerp(momentum, MUON_MOMENTUM)).flatten(1)

    def _alike(self, weights: list[Tensor]) -> Iterator[list[int]]:
        """Places of matrices of one shape, as many as are iterated at once; on all ranks the same."""
        by_shape: dict[torch.Size, list[int]] = {}
        for n, weight in enumerate(weights):
            by_shape.setdefault(self.whole.shape_of(weight), []).append(n)
        for shape, places in by_shape.items():
            at_once = max(1, STACKED[weights[places[0]].device.type] // shape.numel())
            yield from (places[start : start + at_once] for start in range(0, len(places), at_once))


class AdamW(Optimizer):
    """AdamW without its weight decay, which `Optimizers` does."""

    def zeros(self, weight: Tensor) -> State:
        step = torch.zeros((), dtype=torch.float32, device=weight.device)
        return {"step": step, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}

    def update(self, weights: list[Tensor], gradients: list[Tensor], state: list[State], rate: float) -> None:
        adamw(
            weights,
            gradients,
            [own["exp_avg"] for own in state],
            [own["exp_avg_sq"] for own in state],
            [],
            [own["step"] for own in state],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


class SGD(Optimizer):
    """SGD with Nesterov's momentum."""

    def update(self, weights: list[Tensor], gradients: list[Tensor], state: list[State], rate: float) -> None:
        sgd(
            weights,
            gradients,
            [own["momentum_buffer"] for own in state],
            weight_decay=0.0,
            momentum=SGD_MOMENTUM,
            lr=rate,
            dampening=0.0,
            nesterov=True,
            maximize=False,
        )


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrices with the same singular vectors and all singular values near 1 (about 0.7 to 1.2).

    Args:
        matrices: any shape (matrices, rows, columns).
        dtype: the format of the iterations, and of the result.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    wide = (matrices.mT if tall else matrices).to(dtype)
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide


class Optimizers:
    """The optimizers of one model, each parameter in exactly one of them; a tied weight counts once.

    Args:
        model: its parameters' names tell where they stand; frozen ones are left out. Where its attribute `new` says that
            it was loaded, all learn at one rate with AdamW, since rare rows have been visited before.
        kind: as in the recipe: "muon", "adamw" or "sgd".
        weight_decay: decoupled, and on the matrices inside the blocks only: not on norms, and not on embedding and
            head, whose rows are words that would fade between two visits. A network for images has no words: its
            convolutions and matrices all count as inside.
        muon_dtype: the format of Muon's iterations.
        whole: gathers matrices whose rows lie on several ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: Literal["muon", "adamw", "sgd"],
        weight_decay: float,
        muon_dtype: torch.dtype = torch.float32,
        whole: Whole | None = None,
    ) -> None:
        self._named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        pictures = isinstance(model, ImageClassifier)
        matrices = {
            name: w
            for name, w in self._named.items()
            if (w.ndim > 1 if pictures else in_block(name) and w.ndim == 2)
        }
        self._matrices: list[Tensor] = list(matrices.values())
        self._weight_decay = weight_decay
        rest = [weight for name, weight in self._named.items() if name not in matrices]
        one_rate = isinstance(model, ImageClassifier | NgramClassifier) or (
            getattr(model, "new", None) is not None and kind == "adamw"
        )
        inside = {"params": self._matrices, "factor": 1.0}
        outside = {"params": rest, "factor": 1.0 if one_rate else OUTSIDE_RATE[kind]}
        both = [group for group in (inside, outside) if group["params"]]
        self.all: list[Optimizer]
        if kind == "muon":
            self.all = [Muon([inside], muon_dtype, whole), AdamW([outside] if rest else [])]
        else:
            self.all = [AdamW(both) if kind == "adamw" else SGD(both)]

    def parameters(self) -> list[nn.Parameter]:
        """Every parameter that learns, once."""
        return list(self._named.values())

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update of all parameters from their gradients."""
        if self._matrices and self._weight_decay:
            torch._foreach_mul_(self._matrices, 1 - learning_rate * self._weight_decay)
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["factor"]
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The state by parameter name and the optimizer's own word, such as "lm_head.weight.exp_avg"; not copies."""
        names: dict[Tensor, str] = {weight: name for name, weight in self._named.items()}
        return {
            f"{names[weight]}.{key}": tensor
            for optimizer in self.all
            for weight, state in optimizer.state.items()
            for key, tensor in state.items()
        }
