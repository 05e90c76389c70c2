"""The base of text data with a label for each document, such as mails that are spam or not."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from genai.data.text import TextDataModule
from genai.data.token_cache import Documents, TextDocument
from genai.errors import UserError


class LabelledText(TextDataModule):
    """Documents whose labels are one of `classes` each.

    With labels, a window is one document, cut after `context_length` tokens, and a batch has the labels too. Without, the
    documents are a stream of text as in `TextDataModule`.

    A subclass sets `name` and implements `labelled_documents` and `source`.

    Args:
        classes: names of the classes.
        labels: whether batches have labels; a model then learns p(text | label).
        num_train: number of training documents to keep, chosen at random; None for all.
        subset_seed: of this choice.
        options: of `TextDataModule`.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: bool = False,
        num_train: int | None = None,
        subset_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if num_train is not None and num_train < 2:
            raise UserError(f"num_train {num_train} is out of range: use 2 documents or more")
        if len(set(classes)) < len(classes):
            raise UserError(f"a class is named twice in {', '.join(classes)}: name each once")
        self.class_names = tuple(classes)
        self.labels = labels
        self.by_document = labels
        self.num_classes = len(self.class_names) if labels else 0
        self.label_kind = "class" if labels else "none"
        self.num_train = num_train
        self.subset_seed = subset_seed

    @abstractmethod
    def labelled_documents(self) -> Documents:
        """All documents of the three splits; the label of each is one of `classes`."""

    def options(self) -> dict[str, Any]:
        subset = {} if self.num_train is None else {"num_train": self.num_train, "subset_seed": self.subset_seed}
        return {"classes": list(self.class_names), **subset}

    def documents(self) -> Documents:
        documents = self.labelled_documents()
        for document in (document for part in documents.values() for document in part):
            if document.label not in self.class_names:
                raise UserError(
                    f"{self.name} has a document with the label {document.label!r}, which is not among the classes "
                    f"{', '.join(self.class_names)}: set data.init_args.classes"
                )
        return {**documents, "train": subset(documents["train"], self.num_train, self.subset_seed)}


def subset(documents: Sequence[TextDocument], num: int | None, seed: int) -> Sequence[TextDocument]:
    """`num` of the documents at random, in their order; all for None. A larger subset has those of a smaller one."""
    if num is None or num >= len(documents):
        return documents
    chosen = np.random.default_rng(seed).permutation(len(documents))[:num]
    return [documents[i] for i in sorted(chosen)]
