"""Describes the package for pip; tool settings are in pyproject.toml."""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).parent
MIM = ('configs', 'tools', 'model-index.yml')
# Python runs this file at its start if it is beside the package: see startup/zoo_names.py there.
START = HERE / 'ecotta_seg' / 'ecotta_seg.pth'


class BuildWithMim(build_py):
    """Puts configs, tools and the model index into ``ecotta_seg/.mim``, as OpenMMLab's packages do.

    A wheel has copies, an editable install has links to the clone.
    """

    def run(self) -> None:
        """Builds the package, then the folder."""
        super().run()
        if self.editable_mode:
            self._link(HERE / 'ecotta_seg' / '.mim')
        else:
            self._copy(Path(self.build_lib) / 'ecotta_seg' / '.mim')
            shutil.copyfile(START, Path(self.build_lib) / START.name)

    @staticmethod
    def _copy(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM:
            source = HERE / name
            if source.is_dir():
                ignored = shutil.ignore_patterns('__pycache__')
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copyfile(source, folder / name)

    @staticmethod
    def _link(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in MIM:
            link = folder / name
            if not link.exists():
                try:
                    link.symlink_to(Path('..', '..', name))
                except OSError:
                    # Windows may forbid links. The package itself also looks beside its folder.
                    return


class EditableWithStart(editable_wheel):
    """Adds ``ecotta_seg.pth`` to the wheel of an editable install: setuptools itself cannot."""

    def run(self) -> None:
        """Builds the wheel, then adds the file and its line in the wheel's RECORD."""
        super().run()
        for path in Path(self.dist_dir).glob('ecotta_seg-*.whl'):
            with zipfile.ZipFile(path) as wheel:
                files = {name: wheel.read(name) for name in wheel.namelist()}
            content = START.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')
            record = next(name for name in files if name.endswith('.dist-info/RECORD'))
            files[record] += f'{START.name},sha256={digest},{len(content)}\n'.encode()
            files[START.name] = content
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as wheel:
                for name, data in files.items():
                    wheel.writestr(name, data)


DOCS = [
    'furo',
    'myst-parser>=4; python_version >= "3.10"',
    'sphinx>=8; python_version >= "3.10"',
    'sphinx-copybutton',
]
EXPORT = ['onnx>=1.16', 'onnxruntime>=1.17']

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
    package_data={'ecotta_seg': ['py.typed'], 'ecotta_seg.report': ['templates/*']},
    entry_points={'console_scripts': ['ecotta-seg = ecotta_seg.cli.console:main']},
    cmdclass={'build_py': BuildWithMim, 'editable_wheel': EditableWithStart},
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
        'docs': DOCS,
        # Bags of ROS 2 without ROS; tests also read what was written by the library mcap.
        'ros': ['rosbags>=0.11; python_version >= "3.10"'],
        # What tools/export.py writes and compares with.
        'export': EXPORT,
        # Recordings of a stream: --rerun.
        'rerun': ['rerun-sdk>=0.24'],
        # The search of tools/choose.py.
        'choose': ['optuna>=3.2'],
        # Many runs at once, on one machine or many: --engine ray and --engine slurm.
        'ray': ['ray>=2.9'],
        'slurm': ['submitit>=1.5'],
        'test': [
            *DOCS,
            *EXPORT,
            'hypothesis>=6',
            'mcap>=1.2; python_version >= "3.10"',
            'optuna>=3.2',
            'pytest>=8',
            'pytest-cov>=5',
            'pytest-xdist>=3.6',
            'ray>=2.9',
            # Versions before 0.24 do not work with the numpy that they ask for: no test with them.
            'rerun-sdk',
            'rosbags>=0.11; python_version >= "3.10"',
            'ruff>=0.8',
            'submitit>=1.5',
            'tensorboard>=2.14',
        ],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
