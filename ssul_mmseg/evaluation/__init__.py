"""From predicted labels to numbers and tables; importing this needs no PyTorch, only ``metrics`` does."""
