"""A page with the tables and pictures of runs; only ``pictures`` and ``strips`` need PyTorch and mmseg."""
