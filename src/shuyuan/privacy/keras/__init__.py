"""Private gradients of models of Keras: each unit's gradient clipped, from one backward pass, summed.

Other rooms may use `KerasClipper`. TensorFlow is loaded with this room.
"""

from .clipper import KerasClipper

__all__ = ["KerasClipper"]
