"""What a compute unit boots that is a server: Debian's cloud kernel, and this very program in an initramfs.

- **The kernel** and busybox are those of the image ``tiny``, from the same packages.
- **Python** is the interpreter that runs this, with the modules that a unit imports, as bytecode; all else of
  its standard library is in an archive.
- **Programs** that units start (ip, nft, and HAProxy where it is installed) are this machine's, with their
  libraries.

There is no disk and no login. The first process loads drivers and runs `trunkline.units.guest`; when that
ends, the guest is off.
"""

from trunkline.devices.unit_image.build import UnitImage, build, default_cache

__all__ = ["UnitImage", "build", "default_cache"]
