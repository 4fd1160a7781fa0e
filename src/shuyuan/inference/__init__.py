"""From a model and a tokenizer to text or labels: sampling, and the engine that runs sequences through cache slots.

Other rooms may use `Engine`, `Sampling`, `Predictor`, `Labeller` and `computed`, a model of any family that takes arrays. torch is loaded by models that
it computes alone.
"""

from .arrays import Computed, computed
from .engine import Engine
from .labels import Labeller
from .predictor import Predictor
from .sampling import Sampling

__all__ = ["Computed", "Engine", "Labeller", "Predictor", "Sampling", "computed"]
