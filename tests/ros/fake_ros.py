"""As much of rclpy and of its messages as a node uses, strict about types as generated code is."""

import sys
from array import array
from types import ModuleType, SimpleNamespace


class Strict:
    """A message with typed fields."""

    FIELDS: dict = {}

    def __init__(self, **values):
        assert values.keys() <= self.FIELDS.keys(), values
        for name, kind in self.FIELDS.items():
            empty = array('B') if kind is array else kind()
            setattr(self, name, values.get(name, empty))

    def __setattr__(self, name, value):
        kind = self.FIELDS[name]
        assert isinstance(value, kind) and not isinstance(value, bool), (name, type(value))
        if kind is array:
            assert value.typecode == 'B'
        super().__setattr__(name, value)


def message(name, **fields):
    return type(name, (Strict,), {'FIELDS': fields})


Time = message('Time', sec=int, nanosec=int)
Header = message('Header', stamp=Time, frame_id=str)
Image = message(
    'Image', header=Header, height=int, width=int, encoding=str, is_bigendian=int, step=int,
    data=array,
)  # fmt: skip
CompressedImage = message('CompressedImage', header=Header, format=str, data=array)
VisionClass = message('VisionClass', class_id=int, class_name=str)
LabelInfo = message('LabelInfo', header=Header, class_map=list, threshold=float)


class Node:
    def __init__(self, name):
        self.name, self.published, self.logged, self.destroyed = name, [], [], False
        self.publishers, self.services = {}, {}

    def create_publisher(self, kind, topic, quality):
        self.publishers[topic] = (kind, quality)

        def publish(message):
            assert type(message) is kind
            self.published.append((topic, message))

        return SimpleNamespace(publish=publish)

    def create_subscription(self, kind, topic, callback, quality):
        self.subscription = SimpleNamespace(
            kind=kind, topic=topic, callback=callback, quality=quality
        )

    def create_service(self, kind, name, callback):
        self.services[name] = (kind, callback)

    def get_logger(self):
        return SimpleNamespace(info=self.logged.append, warning=self.logged.append)

    def destroy_node(self):
        self.destroyed = True


class ExternalShutdownException(Exception):
    pass


def install(monkeypatch, incoming):
    """Puts the modules in place.

    Args:
        monkeypatch: Of pytest.
        incoming: What ``spin`` delivers: messages for the callback, functions of the node, and
            exceptions to raise.

    Returns:
        What the program did: ``nodes``, ``arguments``, ``shut_down``.
    """
    seen = SimpleNamespace(nodes=[], arguments=None, shut_down=False)

    def create_node(name):
        seen.nodes.append(Node(name))
        return seen.nodes[-1]

    def spin(node):
        for item in incoming:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Strict):
                node.subscription.callback(item)
            else:
                item(node)

    def profile(depth, durability='VOLATILE', reliability='RELIABLE'):
        return SimpleNamespace(depth=depth, durability=durability, reliability=reliability)

    contents = {
        'rclpy': dict(
            init=lambda args=None: setattr(seen, 'arguments', args), create_node=create_node,
            spin=spin, try_shutdown=lambda: setattr(seen, 'shut_down', True),
        ),
        'rclpy.qos': dict(
            QoSProfile=profile, DurabilityPolicy=SimpleNamespace(TRANSIENT_LOCAL='LAST'),
            ReliabilityPolicy=SimpleNamespace(BEST_EFFORT='BEST_EFFORT'),
        ),
        'rclpy.executors': dict(ExternalShutdownException=ExternalShutdownException),
        'sensor_msgs': {}, 'vision_msgs': {}, 'std_srvs': {},
        'sensor_msgs.msg': dict(Image=Image, CompressedImage=CompressedImage),
        'vision_msgs.msg': dict(VisionClass=VisionClass, LabelInfo=LabelInfo),
        'std_srvs.srv': dict(SetBool='SetBool'),
    }  # fmt: skip
    for name, attributes in contents.items():
        module = ModuleType(name)
        module.__spec__ = SimpleNamespace(name=name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def header(number):
    return Header(stamp=Time(sec=1_700_000_000 + number, nanosec=5), frame_id='camera')


def image(frame, number, encoding='bgr8'):
    return Image(
        header=header(number), height=frame.shape[0], width=frame.shape[1], encoding=encoding,
        is_bigendian=0, step=frame.strides[0], data=array('B', frame.tobytes()),
    )  # fmt: skip
