"""sentence-transformers, as shipped: the model in the place of one of theirs."""

import inspect
import pickle

import numpy as np
import pytest
import sentence_transformers
import torch
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from qembed_q import DEFAULT_TASK, Embedder, OptionError, TextError
from qembed_q.sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    TripletEvaluator,
)
from sentence_transformers.util import semantic_search
from sentence_transformers.util.quantization import quantize_embeddings


@pytest.fixture(scope="module")
def model():
    return SentenceTransformer()


def test_signature():
    ours = inspect.signature(SentenceTransformer.encode).parameters
    theirs = inspect.signature(sentence_transformers.SentenceTransformer.encode).parameters
    for name, parameter in theirs.items():
        if name not in ("self", "inputs", "kwargs"):
            assert ours[name].default == parameter.default, name
    assert list(ours)[: len(theirs) - 1] == list(theirs)[:-1]


def test_vectors(reference, model):
    assert isinstance(model, sentence_transformers.SentenceTransformer)
    for texts in DOCUMENTS, tuple(DOCUMENTS), np.array(DOCUMENTS):
        same(model.encode(texts), reference(DOCUMENTS))
    same(model.encode(sentences=DOCUMENTS), reference(DOCUMENTS))
    same(model.encode_document(DOCUMENTS, batch_size=2, show_progress_bar=True), reference(DOCUMENTS))
    same(model.encode_query(QUERIES), reference(QUERIES, "--query"))
    same(model.encode(QUERIES[0], prompt_name="query"), reference(QUERIES[:1], "--query")[0])
    same(model(model.preprocess(DOCUMENTS))["sentence_embedding"], reference(DOCUMENTS))
    same(model(model.preprocess(QUERIES, prompt=model.prompts["query"]))["sentence_embedding"], reference(QUERIES, "--query"))
    assert model.encode([]).shape == (0, 256)


def test_prompts(reference, model):
    assert model.prompts == {"query": f"Instruct: {DEFAULT_TASK}\nQuery:", "document": ""}
    same(model.encode(QUERIES, prompt=f"Instruct: {INSTRUCTION}\nQuery:"), reference(QUERIES, "--instruct", INSTRUCTION))
    # Another prompt is a piece of text, and so is one that is only like an instruction.
    for prompt in "query: ", f"Instruct: {INSTRUCTION}\nQuery: ", "Instruct: \nQuery:":
        same(model.encode(QUERIES, prompt=prompt), reference([prompt + query for query in QUERIES]))
    own = SentenceTransformer(prompts={"sts": f"Instruct: {INSTRUCTION}\nQuery:"}, default_prompt_name="sts", task="code")
    same(own.encode(QUERIES), reference(QUERIES, "--instruct", INSTRUCTION))
    same(own.encode_query(QUERIES), reference(QUERIES, "--task", "code"))
    same(own.encode_document(QUERIES), reference(QUERIES))
    with pytest.raises(ValueError, match="no-such"):
        model.encode(QUERIES, prompt_name="no-such")


def test_kinds(reference, model):
    tensor = model.encode(DOCUMENTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    same(tensor, reference(DOCUMENTS))
    rows = model.encode(DOCUMENTS, convert_to_numpy=False)
    assert isinstance(rows, list) and all(isinstance(row, torch.Tensor) for row in rows)
    same(torch.stack(rows), reference(DOCUMENTS))
    assert isinstance(model.encode("a", convert_to_tensor=True), torch.Tensor)


def test_dimensions(reference, model):
    cut = reference(DOCUMENTS)[:, :64]
    same(model.encode(DOCUMENTS, truncate_dim=64), cut)
    same(model.encode(DOCUMENTS, truncate_dim=64, normalize_embeddings=True), reference(DOCUMENTS, "--dim", "64"))
    same(model.encode(DOCUMENTS, normalize_embeddings=True), reference(DOCUMENTS))
    with model.truncate_embeddings(64):
        same(model.encode(DOCUMENTS), cut)
        assert model.get_embedding_dimension() == 64
    small = SentenceTransformer(truncate_dim=64)
    same(small.encode(DOCUMENTS), cut)
    with pytest.warns(FutureWarning):
        assert small.get_sentence_embedding_dimension() == 64
    assert model.get_embedding_dimension() == 256


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precisions(reference, model, precision):
    found = model.encode(DOCUMENTS, precision=precision)
    expected = quantize_embeddings(reference(DOCUMENTS), precision=precision)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_similarities(reference, model):
    cosines = reference(QUERIES, "--query") @ reference(DOCUMENTS).T
    found = model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS))
    assert found.numpy() == pytest.approx(cosines, abs=1e-6)
    pairs = model.similarity_pairwise(model.encode_query(QUERIES), model.encode_document(DOCUMENTS[:3]))
    assert pairs.numpy() == pytest.approx(cosines[:, :3].diagonal(), abs=1e-6)
    hits = semantic_search(model.encode_query(QUERIES), model.encode_document(DOCUMENTS), top_k=len(DOCUMENTS))
    assert [[hit["corpus_id"] for hit in row] for row in hits] == (-cosines).argsort(axis=1).tolist()
    assert SentenceTransformer(similarity_fn_name="euclidean").similarity_fn_name == "euclidean"


def test_tokens(model):
    features = model.preprocess(["a b", "a"], prompt="c ")
    embedder = Embedder()
    assert features["input_ids"][0].tolist() == embedder.tokenize("c a b")
    assert features["attention_mask"].sum(dim=1).tolist() == [len(embedder.tokenize("c a b")), len(embedder.tokenize("c a"))]
    assert model.max_seq_length == embedder.max_tokens == 2048


def test_long_and_empty(reference, model):
    long = "word " * 5000
    same(model.encode([long, ""]), reference([long, ""], "--truncate", "right", "--empty", "end-token"))
    same(model.encode_query([long, ""]), reference([long, ""], "--query", "--truncate", "right", "--empty", "end-token"))
    strict = SentenceTransformer(truncate="error", empty="error")
    for text in long, "":
        with pytest.raises(TextError):
            strict.encode(text)


def test_retrieval_evaluator(reference, model):
    queries = {f"q{at}": text for at, text in enumerate(QUERIES)}
    corpus = {f"d{at}": text for at, text in enumerate(DOCUMENTS)}
    relevant = {"q0": {"d0"}, "q1": {"d1"}, "q2": {"d1", "d4"}}
    cosines = reference(QUERIES, "--query") @ reference(DOCUMENTS).T
    found = InformationRetrievalEvaluator(queries, corpus, relevant, mrr_at_k=[7])(model)
    ranks = [[f"d{place}" for place in row] for row in (-cosines).argsort(axis=1)]
    reciprocal = [1 / (1 + min(row.index(one) for one in relevant[f"q{at}"])) for at, row in enumerate(ranks)]
    assert found["cosine_mrr@7"] == pytest.approx(np.mean(reciprocal))
    assert found["cosine_accuracy@1"] == np.mean([row[0] in relevant[f"q{at}"] for at, row in enumerate(ranks)])


@pytest.mark.parametrize("precision", [None, "int8", "ubinary"])
def test_similarity_evaluator(reference, model, precision):
    first, second, scores = DOCUMENTS[:4], DOCUMENTS[1:5], [0.1, 0.9, 0.4, 0.3]
    found = EmbeddingSimilarityEvaluator(first, second, scores, precision=precision)(model)
    if precision is None:
        cosines = np.sum(reference(first) * reference(second), axis=1)
        assert found["pearson_cosine"] == pytest.approx(np.corrcoef(scores, cosines)[0, 1], abs=1e-6)
    assert -1 <= found["spearman_cosine"] <= 1


def test_triplet_evaluator(model):
    assert TripletEvaluator(DOCUMENTS[:2], DOCUMENTS[:2], DOCUMENTS[2:4])(model) == {"cosine_accuracy": 1.0}


def test_pickle(reference, model):
    same(pickle.loads(pickle.dumps(model)).encode_query(QUERIES), reference(QUERIES, "--query"))


def test_what_is_not_there_is_an_error(model, tmp_path):
    for options in (
        {"output_value": "token_embeddings"},
        {"output_value": None},
        {"device": "cuda"},
        {"device": ["cpu", "cpu"]},
        {"pool": {}},
        {"batch_size": 0},
        {"precision": "float64"},
        {"truncate_dim": 0},
        {"truncate_dim": 257},
    ):
        with pytest.raises(OptionError):
            model.encode(DOCUMENTS, **options)
    with pytest.raises(TypeError, match="processing_kwargs"):
        model.encode(DOCUMENTS, processing_kwargs={})
    with pytest.raises(OptionError, match="max_seq_length=512"):
        model.max_seq_length = 512
    with pytest.raises(OptionError, match="GGUF"):
        model.save(str(tmp_path / "saved"))
    with pytest.raises(TextError, match="text 1"):
        model.encode([{"image": "a.png"}])
    with pytest.raises(TypeError, match="trust_remote_code"):
        SentenceTransformer(trust_remote_code=True)
    same(model.encode("a", device="cpu"), model.encode("a", device=torch.device("cpu")))
