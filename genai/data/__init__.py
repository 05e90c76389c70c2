"""Datasets: one data module for each, of images on `ImageDataModule`, of text on `TextDataModule`.

digits.py         scikit-learn's digits, 8x8
mnist.py          MNIST, Fashion-MNIST, stacked MNIST
avatars/          rendered cartoon faces with known attributes and captions
utkface.py        UTKFace, with labels from its file names
celeba.py         CelebA, 40 attributes
olivetti.py       the Olivetti faces
image_folder.py   your own folder, zip or tar
class_folder.py   your own images, one folder for each class
image_table.py    your own images, their labels in a CSV file
npz.py            your own images as arrays
huggingface.py    a Hugging Face dataset

shakespeare.py    tiny Shakespeare
plays.py          a folder of an author's works
pydocs.py         the reference of Python, which every Python has
stdlib_code.py    the sources of Python's standard library
text_files.py     your own text
mails.py          mails, spam or not
authors.py        lines of several authors
arithmetic.py     sums, some of them wrong

module.py         DataModule: what images and text share
text.py           TextDataModule: loaders, resume
labelled.py       LabelledText: documents with a label each
windows.py        windows of tokens, their order in training
text_splits.py    documents -> train, val and test
tokenizers.py     characters, bytes, byte-pair encoding
token_cache.py    tokens on disk
text_reading.py   text files, and what is wrong with them
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
sources.py        where your own data lie, the classes of labels
"""

from genai.data.avatars import Avatars
from genai.data.base import Batch, ImageDataModule
from genai.data.celeba import CelebA
from genai.data.class_folder import ClassFolder
from genai.data.digits import Digits
from genai.data.huggingface import HuggingFace
from genai.data.image_folder import ImageFolder
from genai.data.image_table import ImageTable
from genai.data.mnist import MNIST
from genai.data.npz import Npz
from genai.data.olivetti import Olivetti
from genai.data.utkface import UTKFace

__all__ = [
    "MNIST",
    "Avatars",
    "Batch",
    "CelebA",
    "ClassFolder",
    "Digits",
    "HuggingFace",
    "ImageDataModule",
    "ImageFolder",
    "ImageTable",
    "Npz",
    "Olivetti",
    "UTKFace",
]
