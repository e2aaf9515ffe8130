"""Class-incremental semantic segmentation for mmsegmentation.

Importing the package is cheap; importing :mod:`ssul_mmseg.components` registers every component.
"""

__version__ = '0.1.0'
