"""Traffic that tells what became of it: every byte of every connection is compared, at both ends.

    near (`near.py`) ── connections, a stream of bytes each ──▶ what is measured ──▶ far (`far.py`)
                     ── flows of datagrams, many a second ───▶                   ──▶
                     ◀──────────────────── all of it comes back ────────────────────

Both are programs (``python -m trunkline.traffic``) that say what they see as JSON lines (`words.py`);
`pair.Traffic` starts them in network namespaces and listens to them. Flows have a process of their own at
either end, which goes before all others, and their delays are the path's and not a program's, by the kernel's
clock (`promptness.py`). Whatever lies between is to change, break and recover meanwhile: the measure is which
connections broke, and how long nothing came through.
"""
