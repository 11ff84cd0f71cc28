"""The first image: a guest that boots in seconds without KVM, built from Debian packages.

The disk is one FAT file system (label TRUNKTINY) with SYSLINUX, Debian's cloud kernel and an initramfs
that is also the root file system. In it: busybox, dhcpcd, dropbear, jq and the scripts of ``guest/``.

- **Disk.** virtio (10 s instead of 1 s to load over IDE, and no driver afterwards). Memory: 96 MiB.
- **Network.** Every interface, also one plugged in later: DHCPv4 (classless routes, MTU, name servers),
  router advertisements with EUI-64 addresses, DHCPv6 where they say managed. One without an answer goes
  on asking and delays nothing.
- **Who it is.** Config drive (label config-2), else http://169.254.169.254 in OpenStack's layout, else in
  EC2's, for as long as it takes. Host name, ``public_keys``, and in ``vendor_data.json``
  ``{"trunkline": {"authorized_keys": [...]}}``. ``network_data.json`` of a config drive sets addresses
  of networks without DHCP.
- **User data** runs once per instance if it starts with ``#!``; ``#cloud-config`` is not understood, and
  said so on the console. Its output is in /var/log/user_data.log and on the console.
- **Login.** SSH as root, with keys only. The console shows messages and has no login: to read a server's
  console must not be to own the server.
- **What stays.** Files are in memory and gone after a reboot, but for /persist, the FAT disk: there are
  the SSH host key, the mark that user data has run (both are of one instance: a copied disk starts
  anew), what the user puts there, and ``/persist/rc.local``, run at every boot.
- **Power button** (ACPI): SIGTERM to all, and off within a second.

When it is ready it says on the console::

    trunkline-tiny ready: host=... addresses=... source=... lease=SECONDS uptime=SECONDS
"""

from trunkline.devices.tiny.build import TinyImage, build, default_cache, kernel_version, unpack_kernel
from trunkline.devices.tiny.packages import BuildFailed

__all__ = ["BuildFailed", "TinyImage", "build", "default_cache", "kernel_version", "unpack_kernel"]
