"""mteb 2, as shipped: tasks made here, with data in memory."""

import mteb
import pytest
import torch
from datasets import Dataset, DatasetDict
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.cache import ResultCache
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
from mteb.models.model_implementations import qwen3_models
from mteb.models.models_protocols import EncoderProtocol
from mteb.types import PromptType
from qembed_q import Embedder, TextError
from qembed_q.mteb import QembedEncoder
from qembed_q.sentence_transformers import SentenceTransformer

SIDES = [None, PromptType.query, PromptType.document]


def metadata(name, type, prompt, main_score, category="t2t"):
    return TaskMetadata(
        name=name,
        description="Texts of this test.",
        reference="https://example.com",
        type=type,
        category=category,
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        dataset={"path": "qembed-q/nowhere", "revision": "1"},
        date=("2026-01-01", "2026-01-01"),
        domains=["Web"],
        task_subtypes=[],
        license="cc0-1.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
        prompt=prompt,
    )


class QembedRetrieval(AbsTaskRetrieval):
    # Documents have none, whatever a task says of them.
    metadata = metadata("QembedRetrieval", "Retrieval", {"query": INSTRUCTION, "document": "Of documents"}, "ndcg_at_10")

    def load_data(self, num_proc=None, **kwargs):
        self.queries = {"test": {f"q{at}": text for at, text in enumerate(QUERIES)}}
        # The texts that mteb makes of a title and a body, blanks at the ends taken off.
        self.corpus = {"test": {f"d{at}": {"title": "Of", "text": text} for at, text in enumerate(DOCUMENTS)}}
        self.relevant_docs = {"test": {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d4": 1}}}
        self.data_loaded = True


class QembedSTS(AbsTaskSTS):
    metadata = metadata("QembedSTS", "STS", None, "cosine_spearman")

    def load_data(self, num_proc=None, **kwargs):
        rows = {"sentence1": DOCUMENTS[:4], "sentence2": DOCUMENTS[1:5], "score": [0.5, 4.5, 2.0, 1.5]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
        self.data_loaded = True


class QembedClassification(AbsTaskClassification):
    metadata = metadata("QembedClassification", "Classification", "Say what the text is about", "accuracy", "t2c")
    samples_per_label = 4
    n_experiments = 2

    def load_data(self, num_proc=None, **kwargs):
        rows = {"text": [f"{word} {at}" for at in range(8) for word in ("gravity", "Beijing")], "label": [0, 1] * 8}
        self.dataset = DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)})
        self.data_loaded = True


class Watched(QembedEncoder):
    """Keeps what it is asked for."""

    def encode(self, inputs, *, prompt_type=None, **options):
        texts = [text for batch in inputs for text in batch["text"]]
        vectors = super().encode(inputs, prompt_type=prompt_type, **options)
        self.seen = [*getattr(self, "seen", []), (prompt_type, texts, vectors)]
        return vectors


def batches(texts, size=3):
    dataset = Dataset.from_dict({"text": texts})
    return torch.utils.data.DataLoader(dataset, batch_size=size)


def encode(encoder, texts, task, side, **options):
    return encoder.encode(batches(texts), task_metadata=task, hf_split="test", hf_subset="default", prompt_type=side, **options)


def test_meta():
    encoder = QembedEncoder(Embedder(), dim=64)
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("qembed-q/qembed-q-built-in-Q8_0", Embedder().digest)
    assert (meta.embed_dim, meta.max_tokens, meta.experiment_name) == (64, 2048, "dim_64")
    assert QembedEncoder().mteb_model_meta.experiment_name is None
    assert QembedEncoder(prompts={"STS": "a"}).mteb_model_meta != QembedEncoder(prompts={"STS": "b"}).mteb_model_meta


def test_retrieval(reference):
    encoder = Watched()
    result = mteb.evaluate(encoder, QembedRetrieval(), cache=None, show_progress_bar=False)
    texts = [f"Of {text}".strip() for text in DOCUMENTS]
    for side, given, vectors in encoder.seen:
        assert given == (QUERIES if side == PromptType.query else texts)
        options = ["--instruct", INSTRUCTION] if side == PromptType.query else []
        same(vectors, reference(given, *options))
    assert {side for side, *_ in encoder.seen} == {PromptType.query, PromptType.document}
    ranks = (-(reference(QUERIES, "--instruct", INSTRUCTION) @ reference(texts).T)).argsort(axis=1).tolist()
    scores = result.task_results[0].scores["test"][0]
    right = [ranks[at][0] == place for at, place in enumerate((0, 1, 4))]
    assert scores["hit_rate_at_1"] == pytest.approx(sum(right) / 3, abs=1e-5)


def test_sts(reference):
    encoder = Watched()
    result = mteb.evaluate(encoder, QembedSTS(), cache=None, show_progress_bar=False)
    assert len(encoder.seen) == 2
    for side, given, vectors in encoder.seen:
        # The instruction that mteb has for all tasks of this type, before both sides.
        same(vectors, reference(given, "--instruct", "Retrieve semantically similar text."))
    assert -1 <= result.task_results[0].scores["test"][0]["cosine_spearman"] <= 1


def test_classification(reference):
    encoder = Watched()
    result = mteb.evaluate(encoder, QembedClassification(), cache=None, show_progress_bar=False)
    for side, given, vectors in encoder.seen:
        same(vectors, reference(given, "--instruct", "Say what the text is about"))
    assert result.task_results[0].scores["test"][0]["accuracy"] > 0.9


def qwen3():
    """What mteb runs for Qwen3-Embedding, with the drop-in in the place of the model."""
    theirs = InstructSentenceTransformerModel.__new__(InstructSentenceTransformerModel)
    theirs.model = SentenceTransformer()
    theirs.instruction_template = qwen3_models.instruction_template
    theirs.apply_instruction_to_passages = False
    return theirs


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("task", [QembedRetrieval, QembedSTS, QembedClassification])
def test_vectors_are_those_of_its_own_model(task, side):
    texts = [*QUERIES, *DOCUMENTS, "", "word " * 5000]
    same(encode(QembedEncoder(), texts, task.metadata, side), encode(qwen3(), texts, task.metadata, side))


@pytest.mark.filterwarnings("ignore")
def test_instructions_are_those_of_its_own_model():
    """Of all its tasks of text, on every side."""
    encoder, theirs = QembedEncoder(), qwen3()
    tasks = [task for task in mteb.get_tasks(exclude_superseded=False, exclude_private=False) if "text" in task.metadata.modalities]
    assert len(tasks) > 1000
    seen = set()
    for task in tasks:
        for side in SIDES:
            prompt = theirs.get_task_instruction(task.metadata, side)
            ours = encoder.instruction(task.metadata, side)
            assert prompt == ("" if ours is None else f"Instruct: {ours}\nQuery:"), (task.metadata.name, side)
            seen.add(ours)
    assert len(seen) > 200


def test_options(reference):
    task = QembedSTS.metadata
    encoder = QembedEncoder(prompts={"STS": INSTRUCTION}, dim=64)
    options = ["--instruct", INSTRUCTION, "--dim", "64"]
    same(encode(encoder, DOCUMENTS, task, None, batch_size=2, show_progress_bar=True), reference(DOCUMENTS, *options))
    assert encode(encoder, DOCUMENTS, task, None, precision="ubinary").shape == (len(DOCUMENTS), 8)
    for text in "", "word " * 5000:
        with pytest.raises(TextError):
            encode(QembedEncoder(empty="error", truncate="error"), [text], task, None)
    with pytest.raises(TypeError, match="normalize"):
        encode(encoder, DOCUMENTS, task, None, normalize=False)


def test_results_are_filed(tmp_path):
    cache = ResultCache(tmp_path)
    encoder = Watched(dim=64)
    first = mteb.evaluate(encoder, QembedSTS(), cache=cache, show_progress_bar=False)
    count = len(encoder.seen)
    again = mteb.evaluate(encoder, QembedSTS(), cache=cache, show_progress_bar=False)
    assert len(encoder.seen) == count
    assert again.task_results[0].get_score() == pytest.approx(first.task_results[0].get_score(), abs=1e-6)
    other = Watched()
    mteb.evaluate(other, QembedSTS(), cache=cache, show_progress_bar=False)
    assert len(other.seen) == 2
