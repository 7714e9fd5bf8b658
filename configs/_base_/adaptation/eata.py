# EATA (Niu et al., ICML 2022, arXiv 2204.02610). Published: E0 = 0.4 ln C, SGD 2.5e-4 with
# momentum 0.9, weight 2000 (ImageNet; batch 64). Ours: pixels in place of images; redundancy
# threshold 0.4 as published for 10 classes (0.05 is for 1000, and would leave rare classes only);
# Fisher information of the stream's first frames, while the paper takes 2000 source images.
# The rate here is the published one; chosen on CamVid: 4e-3 for DeepLabV3+ R18, 1.6e-2 for
# SegFormer-B0 (docs/tuning.md), as --cfg-options adaptation.optimizer.lr=4e-3.
# With source frames: write_fisher(method.fisher_information(frames), PATH) and fisher=PATH.
adaptation = dict(
    type='eata',
    entropy_threshold=0.4,
    redundancy_threshold=0.4,
    fisher_weight=2000.0,
    fisher_frames=20,
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9),
)
