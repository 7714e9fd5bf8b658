"""Data sets: driving data sets, synthetic weather on clear frames, and streams of frames."""

from .acdc import ACDC_CONDITIONS, ACDCDataset
from .attribute_sets import BDD100KConditionDataset, SHIFTDataset
from .checks.frame_error import FrameError
from .continual_stream import ContinualStream, StreamPosition
from .driving_sets import (
    DarkZurichConditionDataset,
    FoggyCityscapesDataset,
    FoggyDrivingDataset,
    FoggyZurichDataset,
    IDDAWDataset,
    MUSESDataset,
    NighttimeDrivingDataset,
    RainyCityscapesDataset,
)
from .frame_folder import FrameFolderDataset
from .video_frames import VideoFramesDataset
from .weather.adverse_weather import AdverseWeather
from .weather.weather_cityscapes import WeatherCityscapesDataset

__all__ = [
    'ACDC_CONDITIONS',
    'ACDCDataset',
    'AdverseWeather',
    'BDD100KConditionDataset',
    'ContinualStream',
    'DarkZurichConditionDataset',
    'FoggyCityscapesDataset',
    'FoggyDrivingDataset',
    'FoggyZurichDataset',
    'FrameError',
    'FrameFolderDataset',
    'IDDAWDataset',
    'MUSESDataset',
    'NighttimeDrivingDataset',
    'RainyCityscapesDataset',
    'SHIFTDataset',
    'StreamPosition',
    'VideoFramesDataset',
    'WeatherCityscapesDataset',
]
