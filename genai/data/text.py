"""The base of all text data modules: documents -> tokens in one memory-mapped array, windows of them, exact resume."""

from abc import abstractmethod
from typing import Any

from torch.utils.data import DataLoader

from genai.data.arrays import SPLITS, Split
from genai.data.cache import key_of
from genai.data.module import DataModule, ranks
from genai.data.order import EpochSampler, StridedSampler, even_batch_size
from genai.data.token_cache import Documents, TokenEntry, TokenSplit, open_or_build_tokens
from genai.data.tokenizers import TextTokenizer, TokenizerKind, train_tokenizer
from genai.data.windows import DocumentBatch, DocumentWindows, TokenBatch, Windows, WindowSampler
from genai.data.workers import check_shared_memory, loader_settings
from genai.errors import UserError, check_at_least

TextBatch = TokenBatch | DocumentBatch
TextLoader = DataLoader[TokenBatch] | DataLoader[DocumentBatch]


class TokenData(DataModule):
    """Documents as tokens: the part of `TextDataModule` below its loaders.

    Args:
        tokens: `characters`, `bytes` or `bpe`, byte-pair encoding.
        bpe_size: number of tokens of `bpe`.
        context_length: the most tokens that a model sees before the one it predicts.
    """

    by_document: bool = False

    def __init__(
        self,
        root: str | None = None,
        tokens: TokenizerKind = "characters",
        bpe_size: int = 1024,
        context_length: int = 128,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed)
        check_at_least("context_length", context_length, 1)
        self.tokens: TokenizerKind = tokens
        self.bpe_size = bpe_size
        self.context_length = context_length
        self._entry: TokenEntry | None = None

    @abstractmethod
    def documents(self) -> Documents:
        """The documents of the three splits.

        Raises:
            UserError: a file is missing, empty, binary or not UTF-8.
        """

    @abstractmethod
    def source(self) -> Any:
        """What identifies the files that the documents come from (JSON): if it changes, the tokens are made again."""

    def options(self) -> dict[str, Any]:
        """What determines the documents besides their source (JSON)."""
        return {}

    def entry(self) -> TokenEntry:
        """The tokens of all splits, made if they are missing."""
        if self._entry is None:
            size = {"bpe_size": self.bpe_size} if self.tokens == "bpe" else {}
            has_end = {"by_document": True} if self.by_document else {}
            options = {"tokenizer": self.tokens, **size, **has_end, **self.options()}
            self._entry = open_or_build_tokens(self.name, options, self.source(), self.build)
        return self._entry

    def build(self) -> tuple[Documents, TextTokenizer]:
        """Read the documents and train the tokenizer."""
        documents = self.documents()
        texts = [document.text for document in documents["train"]]
        has_end = self.by_document or any(len(part) > 1 for part in documents.values())
        return documents, train_tokenizer(self.tokens, texts, self.bpe_size, has_end)

    @property
    def tokenizer(self) -> TextTokenizer:
        return self.entry().tokenizer

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def split(self, name: Split) -> TokenSplit:
        """One split."""
        return self.entry().splits[name]

    def fingerprint(self, split: Split) -> str:
        return key_of({"name": self.name, "sha256": self.entry().sha256, "split": split})

    def describe(self) -> str:
        """`shakespeare, 65 characters: 1,003,854 train, 111,540 val, 111,540 test tokens`."""
        kind = {"characters": "characters", "bytes": "byte tokens", "bpe": "byte pairs"}[self.tokens]
        sizes = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS)
        return f"{self.name}, {self.vocab_size:,} {kind}: {sizes} tokens"


class TextDataModule(TokenData):
    """Text in tokens; the base class of every text dataset.

    It works with any Trainer and without one, no command line needed:

        data = PyDocs(context_length=64, batch_size=8)
        L.Trainer(max_epochs=1).fit(Autoregressive(data.vocab_size, 64, network=Transformer), data)
        data.tokenizer.text(data.split("train").tokens[:100])

    An epoch covers the training text once, in windows of context_length + 1 tokens that overlap by one token. They start
    at a random offset in each epoch and come in random order. Those of val and test start at the first token, and the last
    one is padded. A window may cross the border of documents. The tokenizer is trained on the training split.

    A subclass sets `name` and implements `documents` and `source`. Where it sets `by_document`, a window is one document, cut
    after `context_length` tokens, see `DocumentWindows`.

    The options are those of `TokenData` and `DataModule`.

    Raises:
        UserError: a number is out of range.
    """

    def prepare_data(self) -> None:
        """Make the tokens if they are missing.

        Raises:
            UserError: there is no text, it cannot be read, it is shorter than the context, or the shared memory is too small
                for the loader processes.
        """
        fewest = 2 if self.by_document else self.context_length + 1
        if len(self.split("train")) < fewest:
            raise UserError(
                f"the training text of {self.name} has {len(self.split('train')):,} tokens, and a context of "
                f"{self.context_length} needs {fewest:,}: use more text, or a smaller data.init_args.context_length"
            )
        for split in ("val", "test"):
            if len(self.split(split)) < 2:
                raise UserError(f"the {split} split of {self.name} has no text: use more text")
        check_shared_memory(self.num_workers, self.batch_size * 2 * 8 * (self.context_length + 1))  # two arrays of int64

    def train_dataloader(self) -> TextLoader:
        self.order.start(self.trainer, self.seed, self.batch_size)
        windows: Windows | DocumentWindows
        sampler: WindowSampler | EpochSampler
        if self.by_document:
            windows = document_windows(self, "train")
            seed = self.order.settings["seed"]
            sampler = EpochSampler(windows, *ranks(self.trainer), seed, self.order.start_pass)
        else:
            windows = Windows(self.split("train").tokens, self.tokenizer.num_bytes, self.context_length, stride=1)
            sampler = WindowSampler(windows, *ranks(self.trainer), self.order)
        return make_text_loader(self, windows, sampler=sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> TextLoader:
        return text_evaluation_loader(self, "val")

    def test_dataloader(self) -> TextLoader:
        return text_evaluation_loader(self, "test")

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {**super().state_dict(), "tokenizer": self.tokenizer.spec()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a fit at this state.

        Raises:
            UserError: the tokenizer of the checkpoint is another one than that of the data: the training text has changed.
        """
        order = dict(state_dict)
        if order.pop("tokenizer", None) != self.tokenizer.spec():
            raise UserError(
                f"the text of {self.name} has changed since the run began, and its tokenizer with it: start a new run"
            )
        super().load_state_dict(order)

    def on_after_batch_transfer(self, batch: TextBatch, dataloader_idx: int) -> TextBatch:
        """Lightning's hook: count a training batch, so that a checkpoint knows the next one."""
        if self.trainer is not None and self.trainer.training:
            self.order.receive()
        return batch


def document_windows(data: TextDataModule, split: Split) -> DocumentWindows:
    """The documents of a split; their labels too, where the data have classes."""
    tokenizer = data.tokenizer
    assert tokenizer.end is not None  # data by document have it
    classes = data.class_names if data.num_classes else ()
    return DocumentWindows(data.split(split), tokenizer.end, tokenizer.num_bytes, data.context_length, classes)


def text_evaluation_loader(data: TextDataModule, split: Split) -> TextLoader:
    """Each token of the split but the first is the target of one window, over all processes together."""
    length = data.context_length
    windows: Windows | DocumentWindows
    if data.by_document:
        windows = document_windows(data, split)
    else:
        windows = Windows(data.split(split).tokens, data.tokenizer.num_bytes, length, stride=length)
    num_ranks, rank = ranks(data.trainer)
    if num_ranks == 1:
        return make_text_loader(data, windows)
    batch_size = even_batch_size(len(windows), num_ranks, data.batch_size)
    return make_text_loader(data, windows, sampler=StridedSampler(windows, num_ranks, rank), batch_size=batch_size)


def make_text_loader(data: TextDataModule, windows: Windows | DocumentWindows, **options: Any) -> TextLoader:
    """A loader of whole batches, with the data module's batch size and number of workers."""
    settings = loader_settings(data.batch_size, data.num_workers) | {"collate_fn": whole}
    return DataLoader(windows, **settings | options)  # type: ignore[arg-type,return-value]


def whole(batch: TextBatch) -> TextBatch:
    """Collate nothing: `__getitems__` returns whole batches."""
    return batch
