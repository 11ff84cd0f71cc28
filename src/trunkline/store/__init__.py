"""The store: transactions, revisions, change feed.

    store = Store.open(path)            migrate.py, lock.py, sqlite.py
    await store.write(function)         writer.py runs function(tx: Tx); tx.py
    with store.read() as reader: ...    reader.py
    await store.changed(after)          feed.py
    Remembered(store, classes, read)    remembered.py

Tables are derived from the specs of resources in tables.py.
"""

from trunkline.store.reader import Change, Reader, Written
from trunkline.store.remembered import Remembered
from trunkline.store.sqlite import CannotOpen
from trunkline.store.store import Store
from trunkline.store.tables import table_of
from trunkline.store.tx import Tx

__all__ = ["CannotOpen", "Change", "Reader", "Remembered", "Store", "Tx", "Written", "table_of"]
