"""Keys and sealing: what is encrypted and authenticated, how it opens, and how tampering shows."""

from .clear_store import OpenStore
from .keyring import KeyFacts, Rotation, add_key, list_keys, remove_key, rotate_key
from .keys import new_key, write_key_file
from .opening import key_place, open_model_folder, open_store, verify_run
from .permit import Permit, landmark, sees
from .sealed_store import SealedStore
from .store import Folder, Journal, Piece, Problem, Reader, Store, Writer

__all__ = [
    "Folder",
    "Journal",
    "KeyFacts",
    "OpenStore",
    "Permit",
    "Piece",
    "Problem",
    "Reader",
    "Rotation",
    "SealedStore",
    "Store",
    "Writer",
    "add_key",
    "key_place",
    "landmark",
    "list_keys",
    "new_key",
    "open_model_folder",
    "open_store",
    "remove_key",
    "rotate_key",
    "sees",
    "verify_run",
    "write_key_file",
]
