"""Paths, directions and edits in a latent space, and explanations.

paths.py            paths between two latents
spaces.py           the space in which latents are edited
predictors.py       what reads the attributes of images
strokes.py          thickness and slant of a stroke, measured from the pixels
directions.py       supervised and unsupervised directions
direction_files.py  directions, saved with a run
condition_edits.py  the same noise with another class, attribute or word
inversion.py        the point of a space whose image is nearest to a picture
edit_scores.py      how well edits work
explanations.py     which pixels a score depends on, and whether that is faithful
word_maps.py        where each word of a caption acts
head_erasure.py     which attention heads a transformer needs
layer_changes.py    what a direction changes in each layer
"""
