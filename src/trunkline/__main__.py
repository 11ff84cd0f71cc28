"""``python -m trunkline`` is the command `trunkline`."""

from trunkline.cli import main

main()
