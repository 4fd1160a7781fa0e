"""Puts another forward pass in front of a module's own, and takes it away again.

Not by hooks: a hook of the user's that changes the output may come before ours, and what it does would not be counted.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import nn


class Watched:
    """The forward pass of one module, not of its class; `remove` puts the old one back.

    Args:
        module: whose forward it becomes.
        forward: what is computed from now on.

    Attributes:
        before: the module's own forward attribute, if it had one; else its class has it.
    """

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module = module
        self._forward = forward
        self._shown = True  # to torch's compiler
        self.before = module.__dict__.get("forward")
        module.forward = self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._forward(*arguments, **keywords)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What stood here before: a copy of the module is an ordinary one, with its own weights."""
        if self.before is not None:
            return copy.deepcopy(self.before, memo)
        return MethodType(type(self._module).forward, memo[id(self._module)])

    def hide(self) -> None:
        """Hides it from torch's compiler, if that is loaded: loading it here would cost those who never compile.

        A compiled graph would keep what stands in the forward pass now: the parameters held still, the tap of one batch.
        """
        if self._shown and "torch._dynamo" in sys.modules:
            self._forward = torch.compiler.disable(self._forward)  # type: ignore[no-untyped-call]
            self._shown = False

    def remove(self) -> nn.Module:
        """Puts back what stood there before, unless something else stands there now; returns the module."""
        if self._module.__dict__.get("forward") is self:
            del self._module.forward
            if self.before is not None:
                self._module.forward = self.before
        return self._module


def own_forward(module: nn.Module) -> bool:
    """Whether a module computes what its class says, and has no other forward pass put on by somebody else."""
    forward = module.__dict__.get("forward")
    while isinstance(forward, Watched):
        forward = forward.before
    return forward is None or getattr(forward, "__func__", None) is type(module).forward
