"""Option groups that several verbs share: each is a frozen dataclass with `add_to(parser)` and `from_namespace(namespace)`.

arguments.py: the parser and the types of option values.
run.py: RUN, --checkpoint, --device, --trust; what a verb needs of a model.
labels.py, prompts.py, shares.py: the condition of each image.
mask.py: --mask.
images.py: images to read, and rows of tiles.
sampling.py: sampler, steps, schedule, guidance.
text.py: tokenizer, prompt and sampling options of text.
output.py: --out and --force.
picture.py: what verbs that write one picture of images share.
realness.py: `genai sample --realness`.
trainer.py: fit, validate, test and predict.
"""
