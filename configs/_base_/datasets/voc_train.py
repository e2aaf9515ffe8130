# Pascal VOC 2012 as its archive comes, without the SBD masks: 1,464 training images, tested on its 1,449 validation
# images. All else is the paper's protocol in batches of 16 instead of 32 and at a lower resolution, for a CPU: crops
# of 257 instead of 513 pixels, scales of 0.35 to 1.4 instead of 0.5 to 2, and test images whose short side is 321
# instead of 513 pixels (docs/results.md).
dataset_name = 'VOC train'
scenario = dict(num_classes=20, setting='overlapped')
saliency = 'map'  # without maps: --cfg-options saliency=ground_truth
data_root = 'data/VOCdevkit/VOC2012'
crop_size = (257, 257)
test_size = 321  # None: whole images
train_dataloader = dict(
    batch_size=16,  # shared by all processes
    num_workers=0,
    batch_sampler=dict(type='ReplayBatchSampler'),
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='PascalVOCDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ann_file='ImageSets/Segmentation/train.txt'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='LabelAugmentation'),
            dict(type='RandomScale', scale=(0.35, 1.4)),
            dict(type='RandomCrop'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
test_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='PascalVOCDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ann_file='ImageSets/Segmentation/val.txt'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='ShortSideCenterCrop'),
            dict(type='PackSegInputs'),
        ]))
