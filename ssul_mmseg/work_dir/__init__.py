"""What a run leaves on disk, whole or not at all; importing this needs no PyTorch, only ``weights`` does."""
