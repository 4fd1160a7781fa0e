"""What a student may learn from a private teacher: nothing on the records that the teacher protects, and the ledger says on which others."""

from __future__ import annotations

from ..errors import PrivacyError
from ..recipe import Recipe
from ..runs import Run
from ..vault import Store
from .data_sets import data_set_id, note_free, same_records

EVENT = "distilled"
MEANING = (
    "A student learns what the private model of this data set says of other records: that follows from what was released, "
    "and costs no ε."
)


def enter_teacher(recipe: Recipe, store: Store) -> None:
    """Notes in the student's ledgers that its teacher is private.

    Args:
        recipe: of the student, which is not private itself.
        store: the student's files.

    Raises:
        PrivacyError: it would learn from the very records that the teacher protects, or its ledgers cannot be used.
    """
    settings = recipe.train.distill
    run = None if settings is None or settings.from_.startswith("hf:") else Run(settings.from_)
    if run is None or not run.exists:
        return
    theirs = run.recipe()
    if theirs.privacy is None:
        return
    if same_records(recipe, theirs):
        raise PrivacyError(
            "privacy.teacher-protects",
            "The teacher was trained privately on these records, and a student without privacy would learn from them directly.",
            where="train.distill.from",
            mend="Give public records as data.source, or texts that the teacher wrote: shuyuan generate.",
        )
    note_free(recipe, store, EVENT, data_set_id(theirs), MEANING)
