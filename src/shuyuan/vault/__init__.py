"""Keys and sealing: what is encrypted and authenticated, how it opens, and how tampering shows."""

from .store import Folder, Journal, OpenStore, Problem, Reader, Store, Writer

__all__ = ["Folder", "Journal", "OpenStore", "Problem", "Reader", "Store", "Writer"]
