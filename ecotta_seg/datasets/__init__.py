"""Where the frames come from: ACDC, weather on clear frames, and the stream over both."""

from .acdc import ACDC_CONDITIONS, ACDCDataset
from .adverse_weather import AdverseWeather
from .continual_stream import ContinualStream, StreamPosition
from .frame_error import FrameError
from .weather import WeatherCityscapesDataset

__all__ = [
    'ACDC_CONDITIONS',
    'ACDCDataset',
    'AdverseWeather',
    'ContinualStream',
    'FrameError',
    'StreamPosition',
    'WeatherCityscapesDataset',
]
