"""Watches a model's forward and backward pass and collects the gradient of each unit, with one backward pass.

The output of each module with parameters passes through a tap, before any hook sees it: a function that changes nothing
and, in the backward pass, hands input and output gradient to the module's rule. While a module computes, its parameters are held
still, so that autograd computes no ordinary gradient. A parameter that still gets one was used outside of its module,
where no tap sees it, and is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_flatten

from ...errors import PrivacyError
from .contributions import Contributions
from .float32 import true_float32
from .general import RowByRow
from .rules import Rule, embedding, linear, rule_for
from .traced import Taps, Watching, for_each_row
from .units import Units
from .watched import Watched, own_forward

Collected = dict[int, Contributions]  # by parameter's id


class Tapped(NamedTuple):
    """One output of a module, without the tensor, so that the backward pass can give it up.

    Attributes:
        name: of the module.
        shape: of the output.
        edge: a place in autograd's graph; a backward pass that is asked for its gradient goes by the output.
    """

    name: str
    shape: torch.Size
    edge: GradientEdge


class Capture:
    """Watches a model. Between `begin` and `end` they collect; at other times the model works as ever.

    Args:
        model: any module; what it computes is not changed.
        ready: if given, is handed a parameter's id and contributions as soon as the backward pass has told of all its uses,
            and keeps them; what is left comes from `end`.

    Attributes:
        parameters: the trainable ones, each once, by name.

    Raises:
        PrivacyError: a module mixes rows, or holds a parameter that no rule can see; it is named.
    """

    def __init__(self, model: nn.Module, ready: Callable[[int, Contributions], None] | None = None) -> None:
        self.parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._names = {id(weight): name for name, weight in self.parameters.items()}
        self._ready = ready
        self._awaited: Counter[int] = Counter()  # by parameter: uses in the forward pass not yet told of
        self._look: Callable[[str, Tensor], None] | None = None
        self._buffers: dict[str, tuple[int, int]] = {}
        self._collected: Collected | None = None
        self._units: Units | None = None
        self._taps: list[Tapped] = []
        self._watching = Watching()
        self._compiled: set[int] = set()  # parameters of compiled blocks, whose graphs use their memory again
        self._inside = 0  # depth of modules that go the general way: what is in them is theirs
        self._handles: list[Any] = []
        self._watched: dict[str, Watched] = {}  # by the module's name
        self._model = model
        _refuse_mixers(model)
        for name, module in model.named_modules():
            own = [weight for weight in module.parameters(recurse=False) if weight.requires_grad]
            if own:
                self._watch(name or type(module).__name__, module)
        for name, weight in self.parameters.items():
            self._handles.append(_on_gradient(weight, _refuse_ordinary_gradient(name)))

    def remove(self) -> None:
        """Takes all hooks away: the model is an ordinary one again."""
        for handle in (*self._handles, *self._watched.values()):
            handle.remove()
        self._handles, self._watched = [], {}

    def compiled(self, blocks: Iterable[nn.Module]) -> None:
        """Some modules will be computed as torch's compiler has them, where no closure is called.

        Args:
            blocks: whose forward passes are compiled; each has linear layers and norms by row.

        Raises:
            PrivacyError: in one of them is another module with parameters.
        """
        from torch._functorch import config

        config.donated_buffer = False  # looking whether units mix goes backward twice
        taps = Taps(self._watching)
        self._handles.append(taps)
        names = {id(module): name for name, module in self._model.named_modules()}
        for block in blocks:
            inside = [names[id(module)] for module in block.modules()]
            own = [(name, self._watched.pop(name).remove()) for name in inside if name in self._watched]
            for name, module in own:
                if getattr(module, "weight_by_row", False):
                    taps.norm(module)
                elif own_forward(module) and isinstance(module, nn.Linear) and rule_for(module) is linear:
                    taps.linear(module, self._teller(name, module, linear, _identities(module)))
                else:
                    raise PrivacyError(
                        "privacy.not-compiled",
                        f"{name} ({type(module).__name__}) cannot be watched in a compiled block.",
                        where="train.compile",
                        mend="Leave train.compile out.",
                    )
            modules = [module for _, module in own]
            self._compiled.update(id(weight) for weight in block.parameters())
            self._handles.append(block.register_forward_pre_hook(self._before(modules, taps)))

    def _before(self, modules: list[nn.Module], taps: Taps) -> Callable[..., None]:
        """What has to be done before a compiled block is entered."""
        ids = {id(module): _identities(module) for module in modules}

        def before(*_: Any) -> None:
            if not self._collecting():
                return
            for module in modules:
                if getattr(module, "weight_by_row", False):
                    taps.give(module, self._copies(module, ids[id(module)]["weight"]))
                else:
                    self._awaited.update(ids[id(module)].values())

        return before

    # -- one physical batch --

    @property
    def collecting(self) -> bool:
        """Whether `begin` was called, and `end` was not yet."""
        return self._collected is not None

    def begin(self, units: Units) -> None:
        """Starts collecting; the next forward passes are of these rows.

        Raises:
            PrivacyError: the model has changed since it was looked at: a mode, or what is trainable.
        """
        for watched in self._watched.values():
            watched.hide()
        _refuse_mixers(self._model)
        trainable = {id(weight) for weight in self._model.parameters() if weight.requires_grad}
        if trainable != self._names.keys():
            raise PrivacyError(
                "privacy.other-parameters",
                "Parameters were added, frozen or unfrozen since the model was made private.",
                mend="Set requires_grad first, and then make the model private; hooks are put on once.",
            )
        self._buffers = {name: (id(buffer), buffer._version) for name, buffer in self._model.named_buffers()}
        self._units = units
        self._collected = {}
        self._watching.on = True
        self._awaited.clear()
        self._taps = []

    def taps(self) -> list[Tapped]:
        """The output of every forward call since `begin`."""
        return self._taps

    def check_told(self) -> None:
        """After a backward pass, looks whether it told of every use of a compiled block's parameters.

        Raises:
            PrivacyError: it was silent about one, which is named.
        """
        for identity in self._compiled:
            if self._awaited[identity]:
                raise PrivacyError(
                    "privacy.not-told",
                    f"The compiled backward pass told nothing of {self._names[identity]}.",
                    where="train.compile",
                    mend="Leave train.compile out, or take another version of torch.",
                )

    def end(self) -> Collected:
        """Stops collecting and returns what was collected, by the parameter's id."""
        collected = self._collected
        if collected is None or self._units is None:
            raise RuntimeError("nothing was begun")
        for name, buffer in self._model.named_buffers():
            if self._buffers.get(name) != (id(buffer), buffer._version):
                raise PrivacyError(
                    "privacy.changed-buffer",
                    f"The buffer {name} was changed by the records, outside of the mechanism.",
                    where=name,
                    mend="Use a module that keeps nothing of what it sees: no running averages, no codebooks.",
                )
        self._collected, self._units, self._taps = None, None, []
        self._watching.on = False
        return collected

    @contextmanager
    def looking(self, look: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Backward passes inside are not the step itself: they tell rules nothing, and `look` a module's name and the gradient
        of its output, of those modules that have a rule.
        """
        self._look = look
        try:
            yield
        finally:
            self._look = None

    # -- hooks --

    def _watch(self, name: str, module: nn.Module) -> None:
        if getattr(module, "weight_by_row", False):
            watched = self._by_row(name, module)
        else:
            rule = rule_for(module) if own_forward(module) else None
            watched = self._general(name, module) if rule is None else self._with_rule(name, module, rule)
        self._watched[name] = Watched(module, watched)

    def _with_rule(self, name: str, module: nn.Module, rule: Rule) -> Callable[..., Any]:
        """The forward pass of a module with a rule: its parameters are held still, and its output goes through a tap.

        A call with more than one argument, such as the weights of a bag, is none that a rule knows, and goes the general way.
        """
        forward, general = module.forward, self._general(name, module)
        own = _identities(module)

        def tapped(*arguments: Any, **keywords: Any) -> Any:
            if not self._collecting():
                return forward(*arguments, **keywords)
            if len(arguments) + len(keywords) > 1:
                return general(*arguments, **keywords)
            held = {
                key: weight
                for key, weight in module._parameters.items()
                if weight is not None and weight.requires_grad
            }
            module._parameters.update({key: weight.detach() for key, weight in held.items()})  # type: ignore[misc]
            x = _only(arguments, keywords)
            if rule is embedding:
                x = self._expanded(x)
            try:
                output = forward(x)
            finally:
                module._parameters.update(held)
            return self._tapped(name, module, rule, {key: own[key] for key in held}, x, output)

        return tapped

    def _by_row(self, name: str, module: nn.Module) -> Callable[..., Any]:
        """The forward pass of a module that also computes with one copy of its weight for each row: autograd then tells the rows apart."""
        forward, identity = module.forward, _identities(module)["weight"]

        def by_row(x: Tensor) -> Any:
            if not self._collecting():
                return forward(x)
            assert self._units is not None
            self._check_rows(name, x)
            return module.with_weight(x, for_each_row(self._copies(module, identity), x))  # type: ignore[operator]

        return by_row

    def _copies(self, module: nn.Module, identity: int) -> Tensor:
        """One copy of a norm's weight for each row, (N, …, C), whose gradients will be told."""
        assert self._units is not None
        weight = module._parameters["weight"]
        assert weight is not None
        copies = weight.detach().expand(self._units.rows, *weight.shape).requires_grad_()
        self._awaited[identity] += not _recomputes()
        _on_gradient(copies, self._tell_rows(identity))
        return copies

    def _tell_rows(self, identity: int) -> Callable[[Tensor], None]:
        def tell(grad_N: Tensor) -> None:
            if self._look is None and self._collected is not None and self._units is not None:
                self._of(identity).add_dense(self._units.sum(grad_N.flatten(1)))
                self._told([identity])

        return tell

    def _tapped(
        self, name: str, module: nn.Module, rule: Rule, own: dict[str, int], x: Tensor, output: Tensor
    ) -> Tensor:
        self._check_rows(name, x)
        again = _recomputes()
        if not again:
            self._awaited.update(own.values())
        anchor = torch.zeros((), device=output.device, requires_grad=True)
        tell = self._teller(name, module, rule, own)
        tapped: Tensor = _Tap.apply(anchor, output, x.detach(), tell)  # type: ignore[no-untyped-call]
        if not again:
            self._taps.append(Tapped(name, tapped.shape, get_gradient_edge(anchor)))
        return tapped

    def _teller(
        self, name: str, module: nn.Module, rule: Rule, own: dict[str, int]
    ) -> Callable[[Tensor, Tensor], None]:
        """What the backward pass calls with a module's input and the gradient of its output."""

        def tell(saved: Tensor, grad: Tensor) -> None:
            if self._look is not None:
                self._look(name, grad)
                return
            if self._collected is None or self._units is None:
                return
            to = {key: self._of(identity) for key, identity in own.items()}
            with torch.no_grad(), true_float32():
                rule(module, saved, grad, self._units, to)
            self._told(own.values())

        return tell

    def _general(self, name: str, module: nn.Module) -> Callable[..., Any]:
        """The forward pass of a module without a rule: computed row by row, with a copy of its parameters for each."""
        forward, row_by_row = module.forward, RowByRow(name, module)

        def by_row(*arguments: Any, **keywords: Any) -> Any:
            if not self._collecting():
                return forward(*arguments, **keywords)
            assert self._units is not None
            self._inside += 1
            try:
                output, copies = row_by_row((arguments, keywords), self._units.rows)
            finally:
                self._inside -= 1
            for row, of_row in enumerate(copies):
                for weight, copy in of_row:
                    self._awaited[id(weight)] += not _recomputes()
                    _on_gradient(copy, self._tell_row(id(weight), row))
            if not _recomputes():
                rows_first = zip(tree_flatten(output)[0], row_by_row.out_dims, strict=False)
                self._taps += [
                    Tapped(name, value.shape, get_gradient_edge(value))
                    for value, dim in rows_first
                    if dim == 0 and value.requires_grad
                ]
            return output

        return by_row

    def _tell_row(self, identity: int, row: int) -> Callable[[Tensor], None]:
        def tell(grad: Tensor) -> None:
            if self._look is None and self._collected is not None and self._units is not None:
                self._of(identity).add_of_unit(self._units.of_row(row), grad)
                self._told([identity])

        return tell

    def _told(self, identities: Iterable[int]) -> None:
        """One use of each parameter was told of; after the last one, its contributions may be handed over."""
        assert self._collected is not None
        for identity in identities:
            self._awaited[identity] -= 1
            if self._ready is not None and self._awaited[identity] < 0:
                raise PrivacyError(
                    "privacy.told-again",
                    f"{self._names[identity]} was clipped by itself, and then used again in the backward pass.",
                    where=self._names[identity],
                    mend='Use checkpoint(…, use_reentrant=False), or clipping = "joint".',
                )
            if self._ready is not None and self._awaited[identity] == 0:
                self._ready(identity, self._collected.pop(identity))

    def _of(self, identity: int) -> Contributions:
        assert self._collected is not None and self._units is not None
        if identity not in self._collected:
            weight = self.parameters[self._names[identity]]
            self._collected[identity] = Contributions(
                weight, self._units.count, lent=identity in self._compiled
            )
        return self._collected[identity]

    def _collecting(self) -> bool:
        return self._collected is not None and not self._inside and torch.is_grad_enabled()

    # -- rows --

    def _expanded(self, ids: Tensor) -> Tensor:
        """Position numbers are often looked up once for all rows, (1, T): each row gets its own copy of what is found.

        Otherwise autograd would add the rows' gradients up before anyone could see them.
        """
        assert self._units is not None
        if ids.ndim > 1 and ids.shape[0] == 1 < self._units.rows:
            return ids.expand(self._units.rows, *ids.shape[1:])
        return ids

    def _check_rows(self, name: str, x: Tensor) -> None:
        assert self._units is not None
        if x.ndim == 0 or x.shape[0] != self._units.rows:
            raise PrivacyError(
                "privacy.no-rows",
                f"The first dimension of what {name} is given is {tuple(x.shape)[:1] or 'missing'}, and the batch has "
                f"{self._units.rows} rows, so the rows' gradients cannot be told apart.",
                where=name,
                mend="Give it one entry a row: x.expand(rows, …), or batch_first=True.",
            )


class _Tap(torch.autograd.Function):
    """Changes nothing; tells what was saved and the gradient that came."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, output: Tensor, x: Tensor, tell: Callable[[Tensor, Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(
            x
        )  # by autograd's own means, so that activation checkpointing can drop and recompute it
        ctx.tell = tell
        ctx.mark_dirty(output)  # the same tensor, not a view: what follows may work in place
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        (x,) = ctx.saved_tensors
        ctx.tell(x, grads[0])
        return None, grads[0], None, None


def _recomputes() -> bool:
    """Whether a forward pass is inside a backward one: what was not kept is computed again, and that is no further use."""
    return torch._C._current_graph_task_id() != -1


def _identities(module: nn.Module) -> dict[str, int]:
    """Of a module's own trainable parameters, by key. While a sharded module computes, others stand in their places: whole ones."""
    return {
        key: id(weight)
        for key, weight in module._parameters.items()
        if weight is not None and weight.requires_grad
    }


def _only(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    """The one tensor that a module with a rule is given."""
    given: Tensor = (*arguments, *keywords.values())[0]
    return given


def _refuse_ordinary_gradient(name: str) -> Callable[[Tensor | None], None]:
    def refuse(grad: Tensor | None) -> None:
        if grad is None:  # a compiled graph says so of what was held still in it
            return
        raise PrivacyError(
            "privacy.unseen-use",
            f"The parameter {name} was used outside of its module's own forward call, where its gradient for each unit "
            "cannot be seen.",
            where=name,
            mend="Call the module instead of using its weight in a function, or freeze it: requires_grad_(False).",
        )

    return refuse


def _refuse_mixers(model: nn.Module) -> None:
    """Modules that let one row's values reach another's, or keep what they saw."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training or not module.track_running_stats:
                raise _mixes(name, module, "norms each row by the others", "nn.GroupNorm")
        elif isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            raise _mixes(name, module, "keeps running averages of what it sees", "track_running_stats=False")


def _mixes(name: str, module: nn.Module, what: str, instead: str) -> PrivacyError:
    return PrivacyError(
        "privacy.mixes-units",
        f"{name or 'The model'} ({type(module).__name__}) {what}, so no unit's gradient is its own.",
        where=name,
        mend=f"Use {instead} instead.",
    )


def _on_gradient(tensor: Tensor, hook: Callable[[Tensor], None] | Callable[[Tensor | None], None]) -> Any:
    return tensor.register_hook(hook)  # type: ignore[no-untyped-call]
