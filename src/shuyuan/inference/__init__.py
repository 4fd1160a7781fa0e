"""From a model and a tokenizer to text: sampling, and the engine that runs sequences through cache slots.

Other rooms may use `Engine` and `Sampling`.
"""

from .engine import Engine
from .sampling import Sampling

__all__ = ["Engine", "Sampling"]
