"""What becomes of connections while an appliance grows, shrinks, changes and dies; and while its peers do.

    client ── inside ──┬── what is measured ──┬── outside ── server
                       └── a plain router  ───┘

`path` is that way, made of network namespaces; `throughput` what goes through, beside the plain router;
`peers` what is to be had without us, `events` what an appliance is put through, `delays` what it adds to a
datagram's way meanwhile, `growth` what more data planes let through. `trunkline.traffic` counts.
"""
