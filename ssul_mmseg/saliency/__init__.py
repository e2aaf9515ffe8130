
THRESHOLD = 0.5
"""Score between 0 and 1 above which a pixel is salient, unless another is asked for."""
