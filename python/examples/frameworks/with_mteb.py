"""mteb: a task of one's own; `mteb.get_tasks` has all the others.   with_mteb.py [MODEL.gguf]"""

import sys
from typing import Any

import mteb
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from qembed_q.mteb import QembedEncoder


class Capitals(AbsTaskRetrieval):
    """Three questions, and where the answers are."""

    metadata = TaskMetadata(
        name="Capitals",
        description="Questions for capitals.",
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        dataset={"path": "none", "revision": "none"},
        prompt="Given a question for a capital, retrieve the sentence that names it",
    )

    def load_data(self, *_: Any, **__: Any) -> None:
        capitals = {"China": "Beijing", "France": "Paris", "Kenya": "Nairobi"}
        self.queries = {"test": {f"q-{land}": f"What is the capital of {land}?" for land in capitals}}
        self.corpus = {"test": {f"d-{land}": {"text": f"The capital of {land} is {city}."} for land, city in capitals.items()}}
        self.relevant_docs = {"test": {f"q-{land}": {f"d-{land}": 1} for land in capitals}}
        self.data_loaded = True


encoder = QembedEncoder(sys.argv[1] if len(sys.argv) > 1 else None)
result = mteb.evaluate(encoder, Capitals(), cache=None, show_progress_bar=False)
for task in result.task_results:
    print(f"{task.get_score():.3f}  {task.task_name}")
