"""EcoTTA's meta networks for MMSegmentation: test-time adaptation that fits in memory.

Importing the package registers its datasets, transforms, metrics, models and hooks, so a config
needs only ``custom_imports = dict(imports=['ecotta_seg'])``.
"""

import warnings

from .cli.loading import load_lightly, load_package, run_by_tool
from .version import __version__

# The lite builds of mmcv warn on every start about operators that no model here uses.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')

if run_by_tool():
    load_lightly()
else:
    load_package()

__all__ = ['__version__', 'datasets', 'evaluation', 'hooks', 'methods']  # noqa: F822
