"""Any of the networks, whatever framework computes it; that framework alone is loaded, and only when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ShuyuanError
from ..vault import Store
from .folder import CONFIG_FILE, read_json
from .rnn_config import RnnConfig
from .rnn_folder import is_recurrent

if TYPE_CHECKING:
    from .hub import Network
    from .rnn import RnnModel

    AnyNetwork: TypeAlias = Network | RnnModel
else:
    AnyNetwork = Any


def load_network(store: Store, name: str = "model") -> AnyNetwork:
    """Loads a model of any family from a run, or from any store.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.

    Raises:
        ShuyuanError: a file is missing or damaged.
        MachineError: the family's framework is not installed.
    """
    if is_recurrent(read_json(store, name, CONFIG_FILE)):
        from . import rnn_folder

        return rnn_folder.load(store, name)
    from . import hub

    return hub.load(store, name)


def open_slots(model: AnyNetwork, count: int, capacity: int) -> Any:
    """Slots of a model that continues text.

    Args:
        model: the network; it is only read.
        count: how many sequences at once.
        capacity: tokens that each can hold, at most the model's context.

    Raises:
        ShuyuanError: the model tells classes apart.
    """
    if model.config.labels:
        raise ShuyuanError(
            "models.no-token-head",
            "The model tells classes apart, and has no head to continue text.",
            mend="Use `shuyuan classify`.",
        )
    network: Any = model  # of the kind that its configuration says
    if isinstance(model.config, RnnConfig):
        from .rnn_slots import open_rnn_slots

        return open_rnn_slots(network, count)
    from .cache import open_slots as open_cache

    return open_cache(network, count, capacity)
