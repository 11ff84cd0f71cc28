"""Use cases as `trunkline demo NAME`: each a module with a click command `command`."""
