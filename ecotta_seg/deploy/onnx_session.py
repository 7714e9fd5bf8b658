"""Runs an ONNX model that this package wrote, with onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np

from .onnx_file import INPUT, described

INSTALL = "pip install 'ecotta-seg[export]'"


class OnnxSession:
    """Runs a model that ``tools/export.py`` wrote.

    Args:
        model: The path of the file, or the content of the file.
        providers: Execution providers of onnxruntime, for example ``['CUDAExecutionProvider']``;
            None for the CPU.
        threads: Number of CPU threads for one operation; None for onnxruntime's choice.

    Attributes:
        description: The description in the model's metadata, see ``export_network``.
        outputs: The names of the model's outputs.

    Raises:
        ValueError: The file does not exist or is damaged, or another program wrote the ONNX model.
        ImportError: onnxruntime is not installed.
    """

    def __init__(
        self,
        model: Union[str, Path, bytes],
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
    ) -> None:
        name = 'the model' if isinstance(model, bytes) else str(model)
        if not isinstance(model, bytes) and not Path(model).is_file():
            what = 'is a folder' if Path(model).is_dir() else 'does not exist'
            raise ValueError(
                f'expected an ONNX file, but {name} {what}: tools/export.py writes one'
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                f'onnxruntime is needed to run {name}, and cannot be imported ({error}): {INSTALL}'
            ) from None
        options = onnxruntime.SessionOptions()
        # No log, because errors are raised with the same text.
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        providers = list(providers or ['CPUExecutionProvider'])
        unknown = sorted(set(providers) - set(onnxruntime.get_available_providers()))
        if unknown:
            raise ValueError(
                f'expected providers of the installed onnxruntime, got {unknown[0]}: it has '
                f'{", ".join(onnxruntime.get_available_providers())}'
            )
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime has a class of errors for each of its codes.
            if not type(error).__module__.startswith('onnxruntime'):
                raise
            reason = (str(error).strip().splitlines() or [''])[0]
            raise ValueError(
                f'{name} is damaged or not an ONNX model ({reason}): write it again with '
                'tools/export.py'
            ) from None
        found = described(self._session.get_modelmeta().custom_metadata_map)
        if found is None:
            raise ValueError(
                f'{name} is an ONNX model that ecotta_seg did not write, so the meaning of its '
                'input and outputs is unknown: expected a file of tools/export.py'
            )
        self.description: dict = found
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        # An open side is None or a name.
        self._shape = self._session.get_inputs()[0].shape

    def run(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the model.

        Args:
            frame: (1, C, H, W) float32, 0 to 255.

        Returns:
            The model's outputs by name.

        Raises:
            ValueError: The model does not accept a frame of this shape.
        """
        expected = [side if isinstance(side, int) else None for side in self._shape]
        if len(frame.shape) != 4 or any(
            side not in (None, own) for side, own in zip(expected, frame.shape)
        ):
            raise ValueError(
                f'expected a frame of shape {tuple(self._shape)}, got {tuple(frame.shape)}'
            )
        try:
            found = self._session.run(None, {INPUT: frame})
        except Exception as error:  # See above.
            if not type(error).__module__.startswith('onnxruntime'):
                raise
            reason = (str(error).strip().splitlines() or [''])[0]
            raise ValueError(
                f'the network cannot be run on a frame of {frame.shape[3]}x{frame.shape[2]} pixels '
                f'({reason[:200]}): export it with --fixed-size, and give it frames of that size'
            ) from None
        return dict(zip(self.outputs, found))
