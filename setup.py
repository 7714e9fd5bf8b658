"""Describes the package for pip; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
version = {}
exec((HERE / 'ecotta_seg' / 'version.py').read_text(encoding='utf-8'), version)

setup(
    name='ecotta-seg',
    version=version['__version__'],
    description='EcoTTA for MMSegmentation: test-time adaptation of segmentors that fits in memory',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The ecotta_seg developers',
    python_requires='>=3.9',
    packages=find_packages(include=['ecotta_seg', 'ecotta_seg.*']),
    package_data={'ecotta_seg.report': ['templates/*']},
    # torch and the OpenMMLab stack are extras: what a user has already is never overwritten.
    install_requires=[
        'albumentations>=2.0.8,<3',
        'jinja2>=3.1',
        'matplotlib>=3.7',
        'numpy>=1.23',
        'rich>=13',
    ],
    extras_require={
        'onedl': [
            'torch>=2.1',
            'onedl-mmengine>=0.10.12,<0.11',
            'onedl-mmcv>=2.3.6,<2.4',
            'onedl-mmsegmentation>=1.4.2,<1.5',
        ],
        'openmmlab': [
            'torch>=2.1',
            'mmengine>=0.10.1',
            'mmcv>=2.0.0rc4,<2.2.0',
            'mmsegmentation>=1.2.2',
            # mmsegmentation imports them and does not ask for them.
            'ftfy',
            'regex',
        ],
        'test': [
            'hypothesis>=6',
            'pytest>=8',
            'pytest-cov>=5',
            'pytest-xdist>=3.6',
            'ruff>=0.8',
        ],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
