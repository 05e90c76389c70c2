"""Classifiers of images.

classifier.py: the LightningModule and its loss.
metrics.py: accuracy or area under the ROC curve.
"""
