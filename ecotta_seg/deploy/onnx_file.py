"""Converts a plain network to an ONNX model with a description, also in half precision."""

import inspect
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, Optional

import torch
from torch import Tensor, nn

from .plain_network import IN_FLOAT32

OPSET = 17
# The key of the metadata that holds the description, and the description's entry ``format``.
KEY, FORMAT = 'ecotta_seg', 'ecotta_seg network 1'
INPUT, LOGITS, FEATURES = 'frame', 'logits', 'features'


def onnx_model(
    network: nn.Module,
    sample: Tensor,
    description: Mapping[str, Any],
    features: bool = False,
    fixed_size: bool = False,
    half: bool = False,
) -> bytes:
    """Traces a network and returns it as an ONNX model.

    Args:
        network: A ``PlainNetwork``.
        sample: The frame (1, C, H, W), 0 to 255, with which the network is traced.
        description: Entries of the description in the metadata; they must be valid in JSON.
        features: Whether the network also returns features.
        fixed_size: If True, the model accepts only frames in the sample's size.
        half: If True, weights and maps are in half precision. Input, outputs and the statistics of
            frames stay in float32.

    Returns:
        The serialised model.

    Raises:
        ValueError: torch cannot export the model to ONNX, for example because of an unknown
            operation.
    """
    import onnx

    outputs = [LOGITS, FEATURES] if features else [LOGITS]
    axes: dict[str, dict[int, str]] = {}
    if not fixed_size:
        axes[INPUT] = axes[LOGITS] = {2: 'height', 3: 'width'}
        axes[FEATURES] = {2: 'features_height', 3: 'features_width'}
        axes = {name: axes[name] for name in (INPUT, *outputs)}
    model = onnx.load_from_string(_traced(network, sample, outputs, axes))
    _drop_identities(model.graph)
    if half:
        model = _halved(model)
    model.producer_name, model.doc_string = 'ecotta_seg', description.get('summary', '')
    properties = {KEY: json.dumps({'format': FORMAT, **description})}
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _traced(network: nn.Module, sample: Tensor, outputs: list[str], axes: dict) -> bytes:
    written = io.BytesIO()
    options: dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        # This exporter also exists in torch 2.1.
        options['dynamo'] = False
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The tracer warns of every branch on a size. The later check on frames finds a wrong
            # branch.
            warnings.simplefilter('ignore')
            torch.onnx.export(
                network, (sample,), written, opset_version=OPSET, input_names=[INPUT],
                output_names=outputs, dynamic_axes=axes, do_constant_folding=True, **options,
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), '')
        raise ValueError(
            'expected a model of operations that ONNX knows, but torch could not export it '
            f'({type(error).__name__}: {reason.strip()}): try --fixed-size, or --format '
            'torch_export'
        ) from error
    return written.getvalue()


def _drop_identities(graph: Any) -> None:
    """Removes Identity nodes, by which torch names equal weights; onnxruntime may fail on them."""
    outputs = {output.name for output in graph.output}
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        # The nodes are in the order of the graph, so the replacement of each input is already
        # known.
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        if node.op_type == 'Identity' and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _halved(model: Any) -> Any:
    """Converts a model to half precision, except the modules that have to stay in float32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # The tracer names each node after the module in which it is computed.
    wide = [node.name for node in model.graph.node if f'{IN_FLOAT32}/' in node.name]
    halved = OnnxModel(
        float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=wide)
    )
    halved.topological_sort()
    return halved.model


def described(properties: Mapping[str, str]) -> Optional[dict]:
    """Reads the description from a model's metadata.

    Args:
        properties: The custom metadata of an ONNX model.

    Returns:
        The description; None if ``onnx_model`` did not make the model.
    """
    try:
        found = json.loads(properties.get(KEY, 'null'))
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get('format') == FORMAT else None
