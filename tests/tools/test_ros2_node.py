"""tools/ros2_node.py with a stand-in for rclpy: no ROS is needed."""

from array import array
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.cli.console import load_tool
from tests.apis.small_segmentor import built, checkpoint_of, frames, write_config
from tests.ros import fake_ros

ROOT = Path(__file__).resolve().parents[2]
tool = load_tool(ROOT / 'tools' / 'ros2_node.py')


@pytest.fixture
def model(tmp_path):
    config = write_config(tmp_path, 'ecotta')
    return ['--config', str(config), '--checkpoint', str(checkpoint_of(config))], config


def run(model, *more):
    torch.manual_seed(0)
    return run_tool(tool.main, [*model[0], *map(str, more)])


def pixels(message):
    kind = {'mono8': np.uint8, '32FC1': np.float32}[message.encoding]
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)


def test_each_image_is_answered_with_its_own_header(model, tmp_path, monkeypatch, capsys):
    stream = list(frames(3))
    incoming = [fake_ros.image(frame, n) for n, frame in enumerate(stream)]
    seen = fake_ros.install(monkeypatch, [*incoming, KeyboardInterrupt()])
    state = tmp_path / 'state.pth'
    remapped = ('--ros-args', '-r', '__ns:=/front')
    assert run(model, '--topic', '/camera', '--save-state', state, *remapped) == 0
    assert '/camera: 3 images, 3 updates, 0 messages' in capsys.readouterr().out
    (node,) = seen.nodes
    assert node.destroyed and seen.shut_down and seen.arguments == list(remapped)
    assert node.subscription.topic == '/camera' and node.subscription.kind is fake_ros.Image
    # The newest image alone waits.
    assert node.subscription.quality.depth == 1
    assert node.subscription.quality.reliability == 'BEST_EFFORT'
    assert node.publishers['/segmentation/label_info'][1].durability == 'LAST'
    labels = [m for topic, m in node.published if topic == '/segmentation/label_info']
    assert len(labels) == 1 and node.published[0][1] is labels[0]
    assert [c.class_name for c in labels[0].class_map][:2] == ['road', 'sidewalk']
    assert [c.class_id for c in labels[0].class_map] == list(range(19))
    masks = [m for topic, m in node.published if topic == '/segmentation/mask']
    sure = [m for topic, m in node.published if topic == '/segmentation/confidence']
    expected = built(model[1])
    for number, frame in enumerate(stream):
        sample = expected.step(frame)
        for answer in (masks[number], sure[number]):
            assert answer.header is incoming[number].header and answer.encoding == 'mono8'
        assert np.array_equal(pixels(masks[number]), sample.pred_sem_seg.data[0].numpy())
        probability = sample.seg_logits.data.softmax(0).max(0).values.numpy()
        assert np.abs(pixels(sure[number]) / 255.0 - probability).max() <= 0.5 / 255 + 1e-6
    again = built(model[1])
    again.load(state)
    assert again.frames == 3


def test_the_service_pauses_and_goes_on(model, monkeypatch, capsys):
    first, second, third = (fake_ros.image(f, n) for n, f in enumerate(frames(3)))

    def ask(value):
        def call(node):
            kind, callback = node.services['~/adapting']
            assert kind == 'SetBool'
            response = callback(SimpleNamespace(data=value), SimpleNamespace())
            assert response.success and isinstance(response.message, str)

        return call

    fake_ros.install(
        monkeypatch,
        [first, ask(False), second, ask(True), third, fake_ros.ExternalShutdownException()],
    )
    assert run(model, '--topic', '/camera') == 0
    assert '3 images, 2 updates' in capsys.readouterr().out


def test_compressed_images_and_one_that_is_cut_off(model, monkeypatch, capsys):
    incoming = []
    for number, frame in enumerate(frames(2)):
        data = array('B', cv2.imencode('.jpg', frame)[1].tobytes())
        data = data[: len(data) // 2] if number else data
        incoming.append(
            fake_ros.CompressedImage(header=fake_ros.header(number), format='jpeg', data=data)
        )
    seen = fake_ros.install(monkeypatch, incoming)
    options = ('--prefix', '/seg', '--confidence', '32FC1')
    assert run(model, '--topic', '/camera/compressed', *options) == 0
    assert '1 images, 1 updates, 1 messages without a whole' in capsys.readouterr().out
    (node,) = seen.nodes
    assert node.subscription.kind is fake_ros.CompressedImage
    assert [topic for topic, _ in node.published] == [
        '/seg/label_info', '/seg/mask', '/seg/confidence',
    ]  # fmt: skip
    assert pixels(node.published[2][1]).max() <= 1
    assert any('no whole image: a jpeg picture' in text for text in node.logged)


def test_bad_frames_and_reports_are_logged(model, monkeypatch):
    from ecotta_seg.ros import node as module

    monkeypatch.setattr(module, '_SECONDS_BETWEEN_REPORTS', 0.0)
    black = np.zeros((64, 96, 3), np.uint8)
    seen = fake_ros.install(monkeypatch, [fake_ros.image(black, 0), fake_ros.image(black, 1)])
    assert run(model, '--topic', '/camera') == 0
    logged = seen.nodes[0].logged
    assert sum('bad_frame, the frame is all black' in text for text in logged) == 2
    assert any('2 images, ' in text and '0 updates' in text for text in logged)


def test_another_encoding_ends_the_node_with_one_sentence(model, tmp_path, monkeypatch, capsys):
    depth = fake_ros.image(np.zeros((4, 8), np.uint8), 0, '16UC1')
    seen = fake_ros.install(monkeypatch, [depth])
    assert run(model, '--topic', '/depth', '--save-state', tmp_path / 'state.pth') == 2
    error = capsys.readouterr().err
    assert "got '16UC1'" in error and 'Traceback' not in error
    assert seen.nodes[0].destroyed and seen.shut_down and not (tmp_path / 'state.pth').exists()


def test_without_ros_one_sentence(model, capsys, monkeypatch):
    from ecotta_seg.ros import node

    monkeypatch.setattr(node, 'find_spec', lambda name: None if name == 'rclpy' else True)
    assert run(model, '--topic', '/camera') == 2
    error = capsys.readouterr().err
    assert 'the live node needs rclpy of ROS 2' in error and 'tools/ros2_bag.py' in error
