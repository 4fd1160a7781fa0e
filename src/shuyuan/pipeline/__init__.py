"""The life of a run from recipe to report: each function does what is missing, and can be interrupted and repeated.

The command and the library use what is named here: what opens a run, one function a verb, and where the files are.
"""

from .compressing import compress_model, variants
from .exporting import export, format_of, leaves_a_trace
from .job import PLAN_FILE, Job, manifest_of
from .laws import fit_law
from .opening import NOT_SEALED, RECIPES, RUNS, begin, locate, look
from .plans import apply_advice, make_plan, plan_for
from .stages import (
    audit_model,
    evaluate_file,
    evaluate_model,
    everything,
    prepare,
    run,
    train_model,
    write_report,
)
from .verifying import verify

__all__ = [
    "NOT_SEALED",
    "PLAN_FILE",
    "RECIPES",
    "RUNS",
    "Job",
    "apply_advice",
    "audit_model",
    "begin",
    "compress_model",
    "evaluate_file",
    "evaluate_model",
    "everything",
    "export",
    "fit_law",
    "format_of",
    "leaves_a_trace",
    "locate",
    "look",
    "make_plan",
    "manifest_of",
    "plan_for",
    "prepare",
    "run",
    "train_model",
    "variants",
    "verify",
    "write_report",
]
