"""Keras on TensorFlow: loaded once, quietly, and only where a model of the family rnn is at work."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from ..errors import MachineError, missing_extra
from ..hardware import detect

EXTRA = "tensorflow"
QUIET = {  # read once, when TensorFlow is loaded
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@cache
def keras_library() -> tuple[Any, Any]:
    """The modules `keras` and `tensorflow`, on the processor.

    Raises:
        MachineError: the extra is not installed, or Keras was loaded before on another framework.
    """
    check_installed()
    _check_backend()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries among themselves
        import keras
        import tensorflow as tf

        # Refused with a RuntimeError where the process has used TensorFlow before: its settings then stand.
        with suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
            tf.config.threading.set_intra_op_parallelism_threads(detect().cores)
            tf.config.threading.set_inter_op_parallelism_threads(detect().cores)
        tf.get_logger().setLevel("ERROR")
        tf.constant(0)  # starts its runtime, which has something to say too
    return keras, tf


def check_installed() -> None:
    """Looks whether the libraries are there, without loading them.

    Raises:
        MachineError: they are not; names the command that installs them.
    """
    if any(find_spec(name) is None for name in ("keras", "tensorflow")):
        raise missing_extra("The family rnn", EXTRA)


def _check_backend() -> None:
    loaded = sys.modules.get("keras")
    backend = loaded.config.backend() if loaded is not None else os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend == "tensorflow":
        return
    raise MachineError(
        "machine.other-keras-backend",
        f"Keras {'was loaded' if loaded is not None else 'is told to run'} on {backend}, and the family rnn runs on TensorFlow.",
        where="KERAS_BACKEND",
        mend="Set KERAS_BACKEND=tensorflow before Keras is imported, or leave it unset.",
    )


@contextmanager
def _silence() -> Iterator[None]:
    """What native code writes to stderr before its own log level counts goes nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
