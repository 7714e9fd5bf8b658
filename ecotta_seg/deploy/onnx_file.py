"""A plain network as an ONNX model: traced, described, in half precision if that is asked for."""

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
# The key of the metadata that says what the file is, and the text that it begins with.
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
    """Traces a network.

    Args:
        network: A ``PlainNetwork``.
        sample: (1, C, H, W), 0 to 255.
        description: What the metadata say, beside the format; for JSON.
        features: Whether the network gives features, too.
        fixed_size: Whether the model takes frames of the sample's size alone.
        half: Whether weights and maps are in half precision; input, outputs and the statistics of
            frames stay in float32.

    Returns:
        The serialised model.

    Raises:
        ValueError: The model has an operation that ONNX does not know.
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
        # The exporter that torch 2.1 has as well.
        options['dynamo'] = False
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # A tracer warns of every branch on a size; the check on frames finds a wrong one.
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
    """Takes out the nodes by which torch names equal weights, which onnxruntime may trip over."""
    outputs = {output.name for output in graph.output}
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        # In the order of the graph, so that a name's own name is known already.
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        if node.op_type == 'Identity' and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _halved(model: Any) -> Any:
    """Half precision but for what is computed in modules that stay in float32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # A tracer names nodes by the modules that they come from.
    wide = [node.name for node in model.graph.node if f'{IN_FLOAT32}/' in node.name]
    halved = OnnxModel(
        float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=wide)
    )
    halved.topological_sort()
    return halved.model


def described(properties: Mapping[str, str]) -> Optional[dict]:
    """What the metadata of a model say.

    Args:
        properties: The custom metadata of an ONNX model.

    Returns:
        The description; None of a model that ``onnx_model`` did not make.
    """
    try:
        found = json.loads(properties.get(KEY, 'null'))
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get('format') == FORMAT else None
