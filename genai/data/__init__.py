"""Datasets: one data module for each, all on the base `ImageDataModule`.

digits.py         scikit-learn's digits, 8x8
mnist.py          MNIST, Fashion-MNIST, stacked MNIST
avatars/          rendered cartoon faces with known attributes and captions
utkface.py        UTKFace, with labels from its file names
celeba.py         CelebA, 40 attributes
olivetti.py       the Olivetti faces
image_folder.py   your own folder, zip or tar

base.py           ImageDataModule: splits, loaders, resume
arrays.py         a split in memory; excluded classes, fewer training images
order.py          the order of the images: samplers, exact resume
augment.py        augmentation of whole batches
words.py          captions as tokens
workers.py        processes that load batches: shared memory, signals
cache.py          decoded images on disk
photos.py         the base of data modules that decode photographs
decoding.py       one image file to pixels
file_types.py     which files are pictures
archives.py       the images of a folder, zip or tar
"""

from genai.data.avatars import Avatars
from genai.data.base import Batch, ImageDataModule
from genai.data.celeba import CelebA
from genai.data.digits import Digits
from genai.data.image_folder import ImageFolder
from genai.data.mnist import MNIST
from genai.data.olivetti import Olivetti
from genai.data.utkface import UTKFace

__all__ = ["MNIST", "Avatars", "Batch", "CelebA", "Digits", "ImageDataModule", "ImageFolder", "Olivetti", "UTKFace"]
