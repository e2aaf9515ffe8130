"""A salient-object detector without weights: contrast and border prior on superpixels."""
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from .network import INSTALL

LONGEST_SIDE = 300
"""Longest side in pixels at which superpixels are found."""
SUPERPIXELS = 200
COMPACTNESS = 20.0
COLOUR_SCALE = 10.0
"""sigma_clr of the paper, in units of CIELAB: colours this far apart belong to different regions."""
SPACE_SCALE = 0.25
"""sigma_spa, as a share of the image's longest side: how far the contrast with other superpixels reaches."""
SMOOTHNESS = 0.1
"""mu: how strongly neighbours share their saliency whatever their colours."""


class ClassicalDetector:
    """Finds salient objects as what contrasts with the background, which is what the image's border is made of.

    Robust background detection (W. Zhu, S. Liang, Y. Wei, J. Sun: Saliency Optimization from Robust Background
    Detection, CVPR 2014): a region is background if it owns much of the image's border for its area; the contrast of a
    superpixel counts as far as it is contrast with background; the saliency of all superpixels is the least-squares
    compromise of both and of smoothness.

    Raises:
        InputError: scikit-image is missing.
    """

    def __init__(self) -> None:
        try:
            from skimage.segmentation import slic
        except ImportError as error:
            raise InputError(f'the classical detector needs scikit-image; install it: {INSTALL}') from error
        self._slic = slic
        self.settings: dict[str, Any] = dict(
            detector='classical', longest_side=LONGEST_SIDE, superpixels=SUPERPIXELS, compactness=COMPACTNESS,
            colour_scale=COLOUR_SCALE, space_scale=SPACE_SCALE, smoothness=SMOOTHNESS)

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Score every pixel of a reduced image.

        Args:
            image: uint8 (H, W, 3) RGB, of any size.

        Returns:
            float32 (h, w): the larger, the more salient.
        """
        scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
        shape = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
        small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        # slic stretches its input to 0 ... 1 before it makes CIELAB of it: CIELAB values would lose their contrast.
        regions = self._slic(small, SUPERPIXELS, COMPACTNESS, start_label=0)
        return superpixel_saliency(lab, regions).astype(np.float32)[regions]


def superpixel_saliency(lab: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Saliency of superpixels by robust background detection.

    Args:
        lab: float32 (h, w, 3) CIELAB.
        regions: int (h, w), the superpixel of each pixel: 0 ... n - 1, none left out.

    Returns:
        float64 (n, ) saliency, about 0 to 1.
    """
    places = np.indices(regions.shape).reshape(2, -1) / max(regions.shape)
    flat = regions.ravel()
    sizes = np.bincount(flat)

    def means(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(flat, channel) for channel in values], axis=1) / sizes[:, np.newaxis]

    apart = _distances(means(lab.reshape(-1, 3).T))
    near = np.exp(-_distances(means(places))**2 / (2 * SPACE_SCALE**2))
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    neighbours = _neighbours(regions, len(sizes))
    background = _background(apart, neighbours, border)
    contrast = (apart * near) @ background
    foreground = contrast / max(contrast.max(), 1e-12)
    # The cost, w_bg s^2 + w_fg (s - 1)^2 over superpixels plus w (s_i - s_j)^2 over pairs of neighbours, is least where
    # (W_bg + W_fg + L) s = w_fg, with L the Laplacian of the neighbours' weights.
    weights = np.where(neighbours, np.exp(-apart**2 / (2 * COLOUR_SCALE**2)) + SMOOTHNESS, 0)
    laplacian = np.diag(weights.sum(1)) - weights
    # A superpixel of neither weight nor neighbour leaves its equation empty.
    regular = 1e-9 * np.eye(len(sizes))
    return np.linalg.solve(np.diag(background + foreground) + laplacian + regular, foreground)


def _background(apart: np.ndarray, neighbours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Probability, (n, ), that a superpixel is background: how much of the border is of its region, for its area.

    Args:
        apart: (n, n) distances of the mean colours.
        neighbours: bool (n, n), which superpixels touch.
        border: superpixels at the image's border.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path
    joined = neighbours.copy()
    # All superpixels of the border touch, as in the paper: background that objects cut in pieces is one region.
    joined[np.ix_(border, border)] = True
    np.fill_diagonal(joined, False)
    # In a dense graph a length of 0 means that there is no edge, but neighbours of one colour are no distance apart.
    edges = np.nonzero(joined)
    paths = shortest_path(csr_array((apart[edges], edges), shape=apart.shape), directed=False)
    shares = np.exp(-paths**2 / (2 * COLOUR_SCALE**2))
    connectivity = shares[:, border].sum(1) / np.sqrt(shares.sum(1))
    return 1 - np.exp(-connectivity**2 / 2)


def _neighbours(regions: np.ndarray, count: int) -> np.ndarray:
    """Bool (n, n): which superpixels touch."""
    touch = np.zeros((count, count), bool)
    for one, other in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
        touch[one.ravel(), other.ravel()] = True
    touch |= touch.T
    np.fill_diagonal(touch, False)
    return touch


def _distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances, (n, n), between points (n, k)."""
    return np.linalg.norm(points[:, np.newaxis] - points[np.newaxis], axis=-1)
