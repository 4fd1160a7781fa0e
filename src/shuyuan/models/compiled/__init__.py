"""The transformer that continues text on a CPU, as one compiled function; other rooms use `CompiledModel` through `models`."""

from .build import NotCompiledError, library
from .model import CompiledModel
from .slots import CompiledSlots

__all__ = ["CompiledModel", "CompiledSlots", "NotCompiledError", "library"]
