"""The store: transactions, revisions, change feed."""

from trunkline.store.interim import Change, Reader, Store, Tx, table_of

__all__ = ["Change", "Reader", "Store", "Tx", "table_of"]
