"""Measuring samples: features once, then every metric, each beside its floor.

registry.py           `@metric`: what a metric is called, which direction is better, how it is printed
protocol.py           `Protocol`: everything that a score depends on besides the model; `Comparison`: what a metric receives
evaluation.py         `Evaluator` measures features against a split; `EvaluationResult` holds scores, floor and protocol
labels.py             which labels samples are conditioned on, and which classes or attributes they should show
tables.py             the result and lists of runs as text that fits the terminal
features/             feature networks, one module each
reference.py          features of real images, computed once and kept on disk
cache.py              the folder of cached features and floors
fid.py                Fréchet distance
kid.py                kernel distance
inception_score.py    Inception score
density_coverage.py   density and coverage, which outliers do not inflate
fid_infinity.py       FID extrapolated to infinitely many samples
haze.py               nearly black pixels
two_sample.py         accuracy of a classifier of samples and real images, on request
precision_recall.py   precision and recall of k-nearest-neighbour manifolds
classes.py            class shares, modes, agreement with labels and attributes
collapse.py           detection of mode collapse from class shares and recall
restoration.py        PSNR, SSIM and feature distance of restored images
discriminative.py     classification: Bayes' rule, baselines, calibration
audit.py              shares of classes, corrected for the errors of the network
memorisation.py       nearest real images of samples, membership inference
novelty.py            how unusual an image is compared with known images

A module of this folder that declares a metric needs no other edit: `registry.all_metrics` imports every module here.
"""
