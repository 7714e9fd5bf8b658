"""EcoTTA's meta networks for MMSegmentation: test-time adaptation that fits in memory.

Importing the package registers its datasets, transforms, metrics, models and hooks, so a config
needs only ``custom_imports = dict(imports=['ecotta_seg'])``.
"""

import warnings

from .stack import bridge_model_zoo, check_stack, import_datasets_quietly
from .version import __version__

# The lite builds of mmcv warn, on every start, of operators that no model here uses.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')

check_stack()
bridge_model_zoo()
import_datasets_quietly()

from . import adaptation, datasets, evaluation, hooks, warm_up  # noqa: E402

__all__ = ['__version__', 'adaptation', 'datasets', 'evaluation', 'hooks', 'warm_up']
