"""Models of Shakespeare that were rewarded for Milton's style, read by classifiers that gave no reward.

    python benchmarks/style.py zoo/shakespeare-gpt shakespeare-milton-rl --num 500

Each model continues the same prompts of the validation split at temperature 1. Printed for each: the reward, the share that
each classifier of words attributes to Milton, distinct 3-grams of words, the KL divergence of a sample to the first model in
nats, and nats per character of Shakespeare's own continuations and of the samples under the first model. The rows of real text
are the floors.
"""

import argparse

import torch
from rich.console import Console
from torch.nn.functional import log_softmax

from genai.cli.text_classification import labelled
from genai.data.authors import Authors
from genai.metrics.tables import WrappedTable
from genai.metrics.text import ngrams
from genai.metrics.text_classification import Labelled, text_baseline
from genai.models.autoregressive.reinforce import sample_completions
from genai.models.autoregressive.rewards import LabelOfText
from genai.models.policy_gradient import kl_of_tokens
from genai.models.text import log_probs_of
from genai.runs import find, load
from genai.runs.data import data_of

BASELINES = ("naive Bayes", "logistic regression")
PROMPT, NEW = 16, 48  # characters


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", help="the start first")
    parser.add_argument("--authors", default="authors-ngram", help="the run of the reward")
    parser.add_argument("--num", type=int, default=500, help="prompts")
    options = parser.parse_args()
    models = [load(name) for name in options.runs]
    data = data_of(find(options.runs[0]))
    data.prepare_data()
    data.setup("fit")
    windows = torch.cat([batch[0] for batch in data.val_dataloader()])  # (N, 1 + context)
    windows = windows[(windows >= 0).all(dim=1)]  # the last window is shorter
    windows = windows[torch.linspace(0, len(windows) - 1, options.num).long(), : PROMPT + NEW + 1]
    reward = LabelOfText(options.authors, 1, lowest=-40)
    reward.use(load(options.authors))
    authors = Authors()
    authors.prepare_data()
    authors.setup("fit")
    train, val, test = (labelled(authors, split, num) for split, num in (("train", None), ("val", 500), ("test", 2000)))
    milton = [text for text, label in zip(test.texts, test.labels, strict=True) if label == 1][: options.num]

    texts = {"Shakespeare": [data.tokenizer.text(row) for row in windows[:, PROMPT + 1 :].tolist()], "Milton": milton}
    nats: dict[str, tuple[str, ...]] = {}
    for name, model in zip(options.runs, models, strict=True):
        generator = torch.Generator().manual_seed(0)
        network = model.averaged_network
        tokens = sample_completions(network, windows[:, : PROMPT + 1], NEW, None, generator).tokens
        texts[name] = [data.tokenizer.text(row) for row in tokens[:, PROMPT + 1 :].tolist()]
        with torch.no_grad():
            real = -log_probs_of(network(windows[:, :-1]), windows)[:, PROMPT + 1 :].mean()
            own = -log_probs_of(models[0].averaged_network(tokens[:, :-1]), tokens)[:, PROMPT + 1 :].mean()
            log_p, log_p_first = (log_softmax(each.averaged_network(tokens[:, :-1]), dim=-1) for each in (model, models[0]))
            kl = kl_of_tokens(log_p, log_p_first)[:, PROMPT + 1 :].sum(dim=1).mean()
        nats[name] = (f"{float(kl):.2f}", f"{float(real):.3f}", f"{float(own):.3f}")
    texts = {name: [" ".join(text.split()) for text in own] for name, own in texts.items()}
    together = Labelled([text for own in texts.values() for text in own], val.labels)  # labels of these are not read
    fitted = [text_baseline(baseline, {"train": train, "val": val, "test": together}, 2) for baseline in BASELINES]
    sizes = [len(own) for own in texts.values()]
    shares = [[100 * float((part.argmax(dim=1) == 1).double().mean()) for part in each.test.split(sizes)] for each in fitted]
    rows = []
    for i, (name, own) in enumerate(texts.items()):
        grams = [gram for text in own for gram in ngrams(text.encode().split())]
        distinct = 100 * len(set(grams)) / len(grams)
        mean = torch.tensor(reward([], own)).mean()
        row = [name, f"{float(mean):.2f}", *(f"{share[i]:.1f}" for share in shares), f"{distinct:.1f}"]
        rows.append([*row, *nats.get(name, ("", "", ""))])
    heads = ["text", "reward", *(f"{name}: Milton, %" for name in BASELINES), "distinct 3-grams, %"]
    Console().print(WrappedTable([*heads, "KL", "nats per character", "nats under the first"], rows))
    for name in options.runs:
        print(name, *(repr(text) for text in texts[name][:6]), sep="\n    ")


if __name__ == "__main__":
    main()
