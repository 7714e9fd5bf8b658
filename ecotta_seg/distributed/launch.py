"""Makes mmengine's own launchers work on machines without a GPU."""

import time
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed

# Seconds in which the threads of a group free the tensors of the last exchange.
_SECONDS_TO_FREE = 0.5


def prepare_cpu_launch(cfg: Config) -> None:
    """Starts the process group with gloo if there is no CUDA; with CUDA, does nothing.

    With every launcher (torchrun, Slurm, MPI), mmengine sets a CUDA device and wraps the model for
    this device. This function calls mmengine's ``init_dist`` but skips the choice of a device.

    Args:
        cfg: A config with ``launcher``; ``env_cfg.dist_cfg`` and ``model_wrapper_cfg`` are changed.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    environment = dict(cfg.get('env_cfg') or {})
    environment['dist_cfg'] = dict(environment.get('dist_cfg') or {}, backend='gloo')
    cfg.env_cfg = environment
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    )
    if not is_distributed():
        without_device = mock.patch.multiple(
            torch.cuda, set_device=lambda device: None, device_count=lambda: 1
        )
        with without_device:
            init_dist(cfg.launcher, **environment['dist_cfg'])


def end_launch() -> None:
    """Destroys the process group, on all ranks together; does nothing without a group.

    If the group lives until the interpreter exits, its threads may outlive the objects that they
    use, and a successful run ends with an abort. torch 2.1 holds Python's lock while it waits for
    these threads, so a thread that needs the lock to free a tensor would never end. The function
    therefore sleeps first, so that all threads can take the lock.
    """
    if is_distributed():
        barrier()
        time.sleep(_SECONDS_TO_FREE)
        torch.distributed.destroy_process_group()
