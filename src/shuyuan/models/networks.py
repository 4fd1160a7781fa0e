"""Any of the networks, whatever framework computes it; that framework alone is loaded, and only when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ShuyuanError
from ..vault import Folder, Store
from .config import in_block
from .folder import CONFIG_FILE, read_json
from .image_config import ImageConfig
from .ngram_config import NgramConfig
from .packed_file import Pack
from .rnn_config import RnnConfig
from .rnn_folder import is_recurrent

# Models without a head for tokens: what they do, and the verb that asks them.
OTHERS = {"labels": ("tells classes apart", "classify"), "spans": ("points to answers in a text", "answer")}

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


def save_variant(
    folder: Folder, model: AnyNetwork, tokenizer_json: str | None, card: str, pack: Pack | None
) -> None:
    """Writes a model of any family; with its weights in fewer bytes `load_network` alone opens it, and no other program.

    Args:
        folder: receives the files.
        model: the network.
        tokenizer_json: the content of tokenizer.json; None for a model that reads images.
        card: the model card, Markdown.
        pack: compresses one weight; None: an ordinary model folder.
    """
    network: Any = model  # of the kind that its configuration says
    if isinstance(model.config, RnnConfig):
        from . import rnn_folder

        assert tokenizer_json is not None  # recurrent models read text
        rnn_folder.save(folder, network, tokenizer_json, card, pack)
        return
    from . import hub

    hub.save(folder, network, tokenizer_json, card, pack=pack)


def inner_matrices(model: AnyNetwork) -> frozenset[str]:
    """The names of the matrices and kernels that belong to neither embedding nor head, as `save_variant` names them."""
    network: Any = model
    if isinstance(model.config, RnnConfig):
        from .rnn import inner_matrices as of_keras

        return of_keras(network.plain)
    _, weights = network.to_hub()
    names = (name for name, weight in weights.items() if weight.ndim > 1)
    if isinstance(model.config, ImageConfig):
        return frozenset(name for name in names if not name.startswith("head."))
    if isinstance(model.config, NgramConfig):  # its table is nearly all of it
        return frozenset({"table.weight"})
    return frozenset(filter(in_block, names))


def open_slots(model: AnyNetwork, count: int, capacity: int) -> Any:
    """Slots of a model that continues text.

    Args:
        model: the network; it is only read.
        count: how many sequences at once.
        capacity: tokens that each can hold, at most the model's context.

    Raises:
        ShuyuanError: the model tells classes apart, or points to answers.
    """
    if model.config.output != "tokens":
        what, verb = OTHERS[model.config.output]
        raise ShuyuanError(
            "models.no-token-head",
            f"The model {what}, and has no head to continue text.",
            mend=f"Use `shuyuan {verb}`.",
        )
    network: Any = model  # of the kind that its configuration says
    if isinstance(model.config, RnnConfig):
        from .rnn_slots import open_rnn_slots

        return open_rnn_slots(network, count)
    from .cache import open_slots as open_cache

    return open_cache(network, count, capacity)
