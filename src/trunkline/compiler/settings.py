"""What the compiler must know of the region beside its resources."""

from __future__ import annotations

from dataclasses import dataclass

#: The key by which derivations find the settings among their sources: ``view.need(Settings, REGION)``.
REGION = "region"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Facts of the region that no resource holds."""

    region: str = "RegionOne"
    #: Keys that a lab's operator is let into its guests with (vendor data), OpenSSH format.
    operator_keys: tuple[str, ...] = ()
    #: The name servers that hosts ask for names which are nobody's here, addresses.
    dns_forwarders: tuple[str, ...] = ()
    #: Where hosts reach the backend's database for them, every member of it, as "ssl:10.99.0.10:6642".
    backend_remotes: tuple[str, ...] = ()
