# The embedded model through the embedded scenes in fog, night, rain and snow: `make demo`.
# python tools/test_tta.py configs/demo.py data/checkpoints/demo_source.pth \
#     --adapters data/checkpoints/demo_adapters.pth --work-dir work_dirs/demo
_base_ = [
    './_base_/models/deeplabv3plus_demo.py',
    './_base_/datasets/driving_scenes.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
