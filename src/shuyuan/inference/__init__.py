"""From a model and a tokenizer to text or labels: sampling, and the engine that runs sequences through cache slots.

Other rooms may use `Engine`, `Sampling` and `Labeller`.
"""

from .engine import Engine
from .labels import Labeller
from .sampling import Sampling

__all__ = ["Engine", "Labeller", "Sampling"]
