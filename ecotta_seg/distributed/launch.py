"""mmengine's own launchers on machines without a GPU."""

import time
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed

# For the threads of a group to free the tensors of its last exchange.
_SECONDS_TO_FREE = 0.5


def prepare_cpu_launch(cfg: Config) -> None:
    """Starts the processes' group over gloo where there is no CUDA; with it, does nothing.

    mmengine sets a CUDA device on every launcher (torchrun, Slurm, MPI) and wraps the model for
    one. Its own ``init_dist`` is used; only the choice of a device is left out.

    Args:
        cfg: With ``launcher``; ``env_cfg.dist_cfg`` and ``model_wrapper_cfg`` are changed.
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
    """Leaves the processes' group, all ranks together; outside of one, does nothing.

    Left to the interpreter's end, the group's threads may outlive what they use: a run whose
    results are all there then ends with an abort. torch 2.1 waits for these threads and keeps
    Python's lock meanwhile: a thread that needs the lock to free a tensor would never end, so all
    of them get the lock before.
    """
    if is_distributed():
        barrier()
        time.sleep(_SECONDS_TO_FREE)
        torch.distributed.destroy_process_group()
