"""From a model and a tokenizer to text, labels or places in a text: sampling, and the engine that runs sequences through cache slots.

Other rooms may use `Engine`, `Sampling`, `Predictor`, `Labeller`, `Spanner` and `computed`, a model of any family that takes arrays. torch is loaded by models that
it computes alone.
"""

from .arrays import Computed, computed
from .engine import Engine
from .labels import Labeller
from .predictor import Predictor
from .sampling import Sampling
from .spans import Place, Spanner

__all__ = ["Computed", "Engine", "Labeller", "Place", "Predictor", "Sampling", "Spanner", "computed"]
