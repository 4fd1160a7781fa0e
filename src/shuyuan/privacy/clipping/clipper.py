"""From losses to the sum of clipped gradients: what a step of private training releases, before noise.

Reference: Abadi et al., "Deep learning with differential privacy", CCS 2016; "auto" clipping: Bu et al., "Automatic
clipping: differentially private deep learning made easier and stronger", NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...errors import PrivacyError
from ..mechanism import AUTO_NORM, AUTO_STABILITY, ROUNDING, Clipping
from .capture import Capture
from .contributions import Contributions
from .float32 import true_float32
from .units import Units


@dataclass(frozen=True)
class Clipped:
    """What is known of one physical batch; it says something about records, so it stays inside.

    Attributes:
        norms_U: norm of each unit's gradient before clipping.
        factors_U: what each was multiplied by; ones in "per-layer", where each parameter has its own.
        not_finite: units whose gradient was not finite and became zero.
    """

    norms_U: Tensor
    factors_U: Tensor
    not_finite: int


class Sums:
    """Where clipped gradients are added up: here, and whole.

    Args:
        parameters: whose gradients they are, by name.
    """

    checked = True  # whether a model is looked at for rows that mix
    compiled = False  # whether torch's compiler makes a kernel of a sum

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._sums = self._zeros()

    def add(self, name: str, contributions: Contributions, factors_U: Tensor) -> None:
        """Adds what the units of a physical batch give one parameter, each times its factor.

        Args:
            name: of the parameter.
            contributions: of the units.
            factors_U: of each unit, at most one.
        """
        contributions.add_clipped(self._sums[name], factors_U, compiled=self.compiled)

    def take(self) -> dict[str, Tensor]:
        """All sums since the last call, by parameter."""
        taken, self._sums = self._sums, self._zeros()
        return taken

    def _zeros(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros(
                weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device
            )
            for name, weight in self._parameters.items()
        }


class Clipper:
    """Adds up clipped gradients of units over physical batches, until `take` hands over the sum.

    Args:
        model: any module.
        clip: the largest norm of a unit's part, or "auto": each unit's gradient is brought to about that norm.
        clipping: "joint": one norm over all parameters; "per-layer": one for each parameter, all of them together as
            large, so that a layer's gradients can be given up before the next one's are computed.
        sums: where they are added up; here, by default.

    Raises:
        PrivacyError: the model cannot be trained privately as it is; names the module or parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        clip: float | Literal["auto"] = 1.0,
        clipping: Clipping = "joint",
        sums: Sums | None = None,
    ) -> None:
        self.norm = AUTO_NORM if clip == "auto" else clip
        self._automatic = clip == "auto"
        self._per_layer = clipping == "per-layer"
        self._capture = Capture(model, self._clip_one if self._per_layer else None)
        self.parameters = self._capture.parameters
        self._names = {id(weight): name for name, weight in self.parameters.items()}
        if not self.parameters:
            raise PrivacyError(
                "privacy.nothing-to-train",
                "No parameter is trainable.",
                mend="Set requires_grad on some of them.",
            )
        self._sums = sums or Sums(self.parameters)
        self._checked: set[tuple[object, ...]] = set()

    def compiled(self, blocks: Iterable[nn.Module]) -> None:
        """Some modules of the model are compiled from now on, and so are sums.

        Args:
            blocks: as of `Capture.compiled`.

        Raises:
            PrivacyError: as there.
        """
        self._capture.compiled(blocks)
        self._sums.compiled = True

    @property
    def waiting(self) -> bool:
        """Whether a batch was begun whose backward pass has not come."""
        return self._capture.collecting

    def begin(self, units: Units) -> None:
        """The next forward pass is of these rows.

        Args:
            units: whose rows they are.

        Raises:
            PrivacyError: the physical batch before has had no `backward` yet.
        """
        if self.waiting:
            raise no_backward()
        device = next(iter(self.parameters.values())).device
        units = units.to(device)
        self._capture.begin(units)
        self._units = units
        self._norms_U = torch.zeros(units.count, device=device)
        self._bad_U = torch.zeros(units.count, dtype=torch.bool, device=device)

    def backward(self, losses: Tensor) -> Clipped:
        """The one backward pass of this physical batch.

        Args:
            losses: one for each row (N,) or for each unit (U,). The loss of a row must depend on no other row: it is no
                mean over all tokens of the batch, whose denominator ties rows together.

        Raises:
            PrivacyError: the losses are not one a row, or depend on other rows.

        Returns:
            Norms and factors of the units; the clipped gradients are added to the sums.
        """
        if losses.ndim != 1 or len(losses) not in (self._units.rows, self._units.count):
            raise PrivacyError(
                "privacy.one-loss",
                f"The losses have the shape {tuple(losses.shape)}, and the batch has {self._units.rows} rows.",
                mend='Give one loss a row: cross_entropy(…, reduction="none"), of sequences the mean over each row.',
            )
        # Whoever calls this inside autocast means the forward pass: norms, factors and sums are float32 or better.
        with torch.autocast(losses.device.type, enabled=False):
            if self._sums.checked:
                self._check_coupling(losses)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self._capture.check_told()
            collected = self._capture.end()
            with torch.no_grad(), true_float32():
                return self._add(collected)

    def discard(self) -> None:
        """Forgets sums, and a batch that was begun: of a step that was broken off."""
        if self.waiting:
            self._capture.end()
        self.take()

    def take(self) -> dict[str, Tensor]:
        """The sum of all clipped gradients since the last call, by parameter, and begins a new one."""
        return self._sums.take()

    def remove(self) -> None:
        """Takes the hooks off the model."""
        self._capture.remove()

    # -- inside --

    def _add(self, collected: dict[int, Contributions]) -> Clipped:
        """Clips what the backward pass has left: everything, or in "per-layer" what could not be clipped on the way."""
        if self._per_layer:
            for identity, contributions in collected.items():
                self._clip_one(identity, contributions)
            norms_U, factors_U = self._norms_U.sqrt(), torch.ones_like(self._norms_U)
            not_finite = int(self._bad_U.sum())
        else:
            squares = [contributions.square_norms() for contributions in collected.values()]
            norms_U = torch.stack(squares).sum(0).sqrt() if squares else self._norms_U
            bad_U = ~norms_U.isfinite()
            not_finite = int(bad_U.sum())
            factors_U = self._factors(torch.where(bad_U, 0, norms_U), self.norm)
            for identity, contributions in collected.items():
                if not_finite:
                    contributions.drop(bad_U)
                self._sums.add(self._names[identity], contributions, factors_U)
        return Clipped(norms_U, factors_U, not_finite)

    @torch.no_grad()
    @true_float32()
    def _clip_one(self, identity: int, contributions: Contributions) -> None:
        """Clips one parameter's gradients by themselves, so that they can be forgotten."""
        square_U = contributions.square_norms()
        bad_U = ~square_U.isfinite()
        if bad_U.any():
            contributions.drop(bad_U)
        share = self.norm / len(self.parameters) ** 0.5
        factors_U = self._factors(torch.where(bad_U, 0, square_U).sqrt(), share)
        self._sums.add(self._names[identity], contributions, factors_U)
        self._norms_U = self._norms_U + square_U
        self._bad_U = self._bad_U | bad_U

    def _factors(self, norms_U: Tensor, most: float) -> Tensor:
        bound = most * (1 - ROUNDING)
        if self._automatic:
            return bound / (norms_U + AUTO_STABILITY)
        return bound / norms_U.clamp(min=bound)

    def _check_coupling(self, losses: Tensor) -> None:
        """Looks whether the losses of half of the units move with the rows of the other half: once for each way through the model, and again
        wherever something else has as many entries as there are rows, and could be taken for them."""
        taps = self._capture.taps()
        rows = self._units.rows
        mistakable = [tap.shape for tap in taps if rows in tap.shape[1:]]
        way = (len(losses) == rows, *(tap.name for tap in taps), *mistakable)
        if way in self._checked or self._units.count < 2 or not taps:
            return
        self._checked.add(way)
        losses_of_half, rows_of_half = self._units.half(len(losses))
        mixing = set()

        def look(name: str, grad: Tensor) -> None:
            # What is not a number says nothing here: an infinite loss of another row times zero.
            if bool(grad[~rows_of_half].nan_to_num(0.0).any()):
                mixing.add(name)

        with self._capture.looking(look):
            try:
                grads = torch.autograd.grad(
                    losses[losses_of_half].sum(),
                    [tap.edge for tap in taps],
                    retain_graph=True,
                    allow_unused=True,
                )
            except RuntimeError as error:
                raise PrivacyError(
                    "privacy.cannot-check",
                    f"Whether units mix cannot be looked at ({str(error).splitlines()[0]}).",
                    mend="Use checkpoint(…, use_reentrant=False), and keep all losses in one graph.",
                ) from error
        for tap, grad in zip(taps, grads, strict=True):
            if grad is not None:
                look(tap.name, grad)
            if tap.name in mixing:
                raise PrivacyError(
                    "privacy.mixes-units",
                    f"The loss of one unit depends on what {tap.name} computes for another.",
                    where=tap.name,
                    mend="Let each row's loss depend on that row alone: no norm, contrast or balance over the batch.",
                )


def no_backward() -> PrivacyError:
    """The refusal of a step, or of another batch, while a physical batch waits."""
    return PrivacyError(
        "privacy.no-backward",
        "A physical batch of this step had no backward pass.",
        mend="Take each from private.batches(), and call private.backward(losses) for it, whatever its losses are.",
    )
