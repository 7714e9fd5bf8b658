"""Builds adaptation methods from configs, with clear errors for wrong ones."""

import logging
from typing import Optional, Union

from mmengine.logging import print_log
from torch import nn

from ..config.old_wrapping import without_wrapping
from ..names.method_options import OF_ANY_METHOD
from ..names.type_names import type_name
from ..registry import ADAPTATION_METHODS, check_keys, constructor_options


def method_class(kind: Union[str, type, None]) -> type:
    """The class of a method.

    Args:
        kind: A registered name, or the class itself.

    Raises:
        ValueError: The method is unknown.
    """
    if isinstance(kind, str):
        cls = ADAPTATION_METHODS.module_dict.get(type_name(kind))
    else:
        cls = kind if isinstance(kind, type) and hasattr(kind, 'method_state') else None
    if cls is None:
        known = sorted(ADAPTATION_METHODS.module_dict)
        raise ValueError(f'unknown adaptation method {kind!r}: expected one of {known}')
    return cls


def build_method(config: dict, segmentor: nn.Module, views: Optional[int] = None) -> nn.Module:
    """Builds the adaptation method that a config describes, around a segmentor.

    Args:
        config: ``type`` (a registered name or class) and the method's options. Every method takes
            ``views``, ``autocast`` and ``memory_budget``, see ``AdaptationMethod``. (CoTTA's own
            option ``views`` sets the views of the teacher's labels.) ``compute_budget`` sets the
            budget of a ``ComputeBudget``. ``estimate`` is a dictionary of options of
            ``LabelFreeEstimate``, or True for the defaults; None or False mean no estimate. With a
            ``memory_budget`` the estimate is left out. Methods that learn by gradients take
            ``reset_every`` (RDumb, see ``PeriodicReset``) and ``layer_weights``, a dictionary of
            the options of ``LayerWeights`` (LAW).
        segmentor: The source model; the method changes it in place.
        views: Number of views of the prediction; overrides the config. None keeps the config's.

    Raises:
        ValueError: The type is missing or unknown, an option is misspelt, or the method does not
            support autocast or several views.
    """
    options = without_wrapping(config)
    estimate = options.pop('estimate', None)
    name = options.pop('type', None)
    cls = method_class(name)
    known = constructor_options(cls)
    own = options.pop('views', None) if 'views' not in known else None
    views = own if views is None else views
    autocast = options.pop('autocast', None) if 'autocast' not in known else None
    budget = options.pop('memory_budget', None) if 'memory_budget' not in known else None
    compute_budget = options.pop('compute_budget', None)
    reset_every = options.pop('reset_every', None)
    layer_weights = options.pop('layer_weights', None)
    if not isinstance(layer_weights, (dict, type(None))):
        raise ValueError(
            f'expected layer_weights to be a dictionary, such as dict(exponent=1.0), got '
            f'{layer_weights!r}'
        )
    check_keys('layer_weights', layer_weights or {}, ['exponent'])
    check_keys(f'adaptation method {name!r}', options, [*dict.fromkeys([*known, *OF_ANY_METHOD])])
    label_free = None
    if estimate is not None and estimate is not False:
        if options.get('memory_budget', budget) is None:
            from .label_free import LabelFreeEstimate

            # Must come before the method changes the model.
            label_free = LabelFreeEstimate.from_options(estimate, segmentor)
        else:
            print_log(
                'the estimate of mIoU is left out: it also runs the source, which may need more '
                'than the memory_budget',
                'current',
                logging.WARNING,
            )
    if compute_budget is not None:
        from .compute_budget import ComputeBudget

        # Must come before the method changes the model, too.
        compute_budget = ComputeBudget(compute_budget, segmentor)
    method = cls(segmentor, **options)
    method.compute_budget = compute_budget
    if views is not None:
        method.use_views(views)
    if autocast is not None:
        method.use_autocast(autocast)
    if budget is not None:
        method.use_memory_budget(budget)
    if reset_every is not None:
        method.use_reset_every(reset_every)
    if layer_weights is not None:
        method.use_layer_weights(**layer_weights)
    if label_free is not None:
        label_free.attach(method)
        method.estimate = label_free
    # A subclass has all calibrated buffers only after its constructor has finished.
    if getattr(method, 'kept_calibration', None) is not None:
        method.take_calibration(method.kept_calibration)
    return method
