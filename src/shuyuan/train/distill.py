"""Learning from a teacher: a smaller model says at each place what a larger one holds for likely, and what stands in the records.

The loss is (1 - share) · cross entropy + share · T² · KL(teacher | student), both sides' logits divided by the temperature T.

Shapes: N targets that are learned, V entries of the vocabulary, or classes.

Reference: Hinton et al. 2015, https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TrainError
from ..models import hub
from ..models.digest import weights_digest
from ..models.functions import LEARN_NOTHING, cross_entropy
from ..recipe import Distill


class Distillation:
    """The loss of a student beside its teacher, which does not learn.

    Args:
        student: the model that learns.
        settings: the recipe's section.
        device: where both compute.

    Attributes:
        digest: of the teacher's weights; a checkpoint belongs to one teacher.

    Raises:
        TrainError: the teacher tells something else than the student, or sees less at once.
    """

    def __init__(self, student: Any, settings: Distill, device: str) -> None:
        self._student = student
        self._teacher: Any = hub.load_folder(settings.from_)
        _check_pair(student, self._teacher, settings.from_)
        self._teacher.to(device).eval().requires_grad_(False)
        self._temperature, self._share = settings.temperature, settings.share
        self.digest = weights_digest(self._teacher)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over all targets that are not -100, in nats: a float32 scalar. Arguments as of the student's own loss."""
        learned_N = (targets != LEARN_NOTHING).flatten().nonzero().squeeze(1)
        with torch.no_grad():
            told_NV = self._teacher(inputs).flatten(0, -2)[learned_N]
        logits_NV = self._student(inputs).flatten(0, -2)[learned_N]
        hard = cross_entropy(logits_NV, targets.flatten()[learned_N]).sum()
        soft = F.kl_div(self._warm(logits_NV), self._warm(told_NV), reduction="sum", log_target=True)
        return (1 - self._share) * hard + self._share * self._temperature**2 * soft

    def _warm(self, logits_NV: Tensor) -> Tensor:
        return F.log_softmax(logits_NV.float() / self._temperature, dim=-1)


def _check_pair(student: Any, teacher: Any, where: str) -> None:
    one, other = student.config, teacher.config
    labels = tuple(getattr(one, "labels", ())), tuple(getattr(other, "labels", ()))
    why = None
    if one.output != other.output or one.output == "spans" or labels[0] != labels[1]:
        why = "it does not tell the same tokens or labels as the student"
    elif getattr(one, "multi_label", False) or getattr(other, "multi_label", False):
        why = "each of its labels is told by itself, and no label is likelier at another's cost"
    elif one.output == "tokens" and one.vocab_size != other.vocab_size:
        why = f"it knows {other.vocab_size} tokens, and the student {one.vocab_size}"
    elif teacher.context < student.context:
        why = f"it sees {teacher.context} tokens at once, and the student {student.context}"
    if why:
        raise TrainError(
            "train.other-teacher",
            f"The teacher cannot teach this model: {why}.",
            where=where,
            mend="Take one of the same task and tokenizer ([tokenizer] left out is the teacher's), with a context at least as long.",
        )
