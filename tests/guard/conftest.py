from tests.segmentors import frames, segmentor  # noqa: F401  (fixtures)
