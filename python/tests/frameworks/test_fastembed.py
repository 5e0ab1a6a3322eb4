"""The interface of fastembed, beside fastembed as shipped."""

import inspect
import itertools
import types

import fastembed
import numpy as np
import pytest
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from qembed_q import Embedder, ModelError, OptionError
from qembed_q.fastembed import TextEmbedding

#: Of fastembed's methods those that are not there.
MISSING = {"add_custom_model"}


def parameters(function):
    """Names, kinds and whether there is a default, without what takes whatever else there is."""
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default is one.empty) for one in found if one.kind != one.VAR_KEYWORD]


def test_signatures():
    theirs = {name for name in dir(fastembed.TextEmbedding) if not name.startswith("_")} - {"EMBEDDINGS_REGISTRY"}
    # What their class has for downloading is not part of the interface.
    theirs = {name for name in theirs if name in vars(fastembed.TextEmbedding)}
    assert theirs - set(dir(TextEmbedding)) == MISSING
    for name in ["__init__", *sorted(theirs - MISSING - {"embedding_size"})]:
        ours, real = parameters(getattr(TextEmbedding, name)), parameters(getattr(fastembed.TextEmbedding, name))
        assert ours[: len(real)] == real, name
    assert isinstance(inspect.getattr_static(TextEmbedding, "embedding_size"), property)
    for name in "embed", "query_embed":
        batch = inspect.signature(getattr(TextEmbedding, name)).parameters
        assert batch["batch_size"].default == inspect.signature(fastembed.TextEmbedding.embed).parameters["batch_size"].default


def test_models():
    real = fastembed.TextEmbedding.list_supported_models()[0]
    for model in TextEmbedding.list_supported_models():
        assert set(model) <= set(real)
        assert TextEmbedding.get_embedding_size(model["model"]) == model["dim"]
    with pytest.raises(ValueError, match="bge"):
        TextEmbedding.get_embedding_size("BAAI/bge-small-en-v1.5")


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_vectors(reference, batch_size):
    model = TextEmbedding()
    vectors = model.embed(DOCUMENTS, batch_size=batch_size)
    assert isinstance(vectors, types.GeneratorType)
    same(list(vectors), reference(DOCUMENTS))
    same(list(model.passage_embed(iter(DOCUMENTS), batch_size=batch_size)), reference(DOCUMENTS))
    same(list(model.query_embed(QUERIES, batch_size=batch_size)), reference(QUERIES, "--query"))
    same(list(model.embed(DOCUMENTS[0])), reference(DOCUMENTS[:1]))
    same(list(model.query_embed(QUERIES[0])), reference(QUERIES[:1], "--query"))
    assert list(model.embed([])) == []


def test_no_more_is_read_than_is_asked_for():
    read = itertools.count()
    texts = (f"text {next(read)}" for _ in range(1000))
    next(iter(TextEmbedding().embed(texts, batch_size=10)))
    assert next(read) == 10


def test_options(reference):
    model = TextEmbedding(Embedder(), instruction=INSTRUCTION, dim=64)
    assert model.embedding_size == 64
    same(np.array(list(model.embed(DOCUMENTS))), reference(DOCUMENTS, "--dim", "64"))
    same(list(model.query_embed(QUERIES)), reference(QUERIES, "--instruct", INSTRUCTION, "--dim", "64"))


def test_tokens():
    model, embedder = TextEmbedding(), Embedder()
    counts = [len(embedder.tokenize(text)) + 1 for text in DOCUMENTS]
    assert model.token_count(DOCUMENTS) == model.token_count(iter(DOCUMENTS), batch_size=1) == sum(counts)
    assert model.token_count(DOCUMENTS[0]) == counts[0]


def test_errors():
    with pytest.raises(OptionError, match="cuda"):
        TextEmbedding(cuda=True)
    with pytest.raises(OptionError, match="threads=4"):
        TextEmbedding().embed(DOCUMENTS, parallel=4)
    assert len(list(TextEmbedding(threads=1).embed(DOCUMENTS, parallel=0))) == len(DOCUMENTS)
    with pytest.raises(ModelError):
        TextEmbedding("no-such-model.gguf")
    late = TextEmbedding("no-such-model.gguf", lazy_load=True)
    with pytest.raises(ModelError):
        late.embed(DOCUMENTS)
