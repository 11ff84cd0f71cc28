"""The original to compare with: Neutron with OVN, MariaDB and Keystone, in a folder of its own.

The set-up favours it: no message queue, no agents, unlimited quotas, OVN over local sockets.
"""
