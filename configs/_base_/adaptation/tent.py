# Tent (Wang et al., ICLR 2021, arXiv 2006.10726). Published: SGD 2.5e-4 with momentum 0.9 in
# batches of 64 images (ImageNet), Adam 1e-3 in batches of 200 (CIFAR). Ours: Adam 1e-4 for one
# frame a step, the highest rate that lasts on a drive that the source has not seen
# (docs/tuning.md).
adaptation = dict(type='tent', optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999)))
