"""What setup.cfg cannot say: the configs at the top of the repository are installed among the package's code."""
from setuptools import find_packages, setup

CONFIGS = 'ssul_mmseg.configs'

setup(packages=[*find_packages(include=['ssul_mmseg*']), CONFIGS], package_dir={CONFIGS: 'configs'})
