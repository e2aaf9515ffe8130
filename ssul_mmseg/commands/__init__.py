"""The commands, a file each with a ``main``; importing them needs no PyTorch, so that ``--help`` answers at once."""
