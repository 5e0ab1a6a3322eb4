"""Tests of compare_server.py's figures: `python -m unittest discover -s scripts -p 'test_*.py'`."""

import unittest

import compare_server
import serving
import serving_faults


class Figures(unittest.TestCase):
    def test_texts_are_the_same_every_time_and_all_different(self):
        texts = serving.queries(200, "a")
        self.assertEqual(texts, serving.queries(200, "a"))
        self.assertEqual(len({*texts, *serving.queries(200, "b")}), 400)
        self.assertEqual({len(text.split()) for text in texts}, set(range(10, 31)))

    def test_percentiles_are_values_by_rank(self):
        self.assertEqual(serving.percentile(range(1, 201), 99), 198)
        self.assertEqual(serving.percentile([3, 1, 2], 50), 2)
        self.assertEqual(serving.percentile([7], 99), 7)

    def test_memory_that_grows_varies_and_its_start_does_not_count(self):
        self.assertEqual(serving_faults.variation([1, 1, 100, 100, 100, 100, 100, 100, 100, 100]), 0)
        self.assertAlmostEqual(serving_faults.variation([100, 100, 100, 100, 110]), 0.1)

    def test_a_failure_on_a_thread_is_one_of_all(self):
        self.assertEqual(serving.at_once([lambda: 1, lambda: 2]), [1, 2])
        with self.assertRaises(KeyError):
            serving.at_once([lambda: 1, lambda: {}[0]])

    def test_targets(self):
        query = "32 clients, queries with one instruction"
        rows = [("avx2", query, name, "texts/s", value) for name, value in
                [("qembed-q", 19), ("qembed-q", 20), ("qembed-q", 90), ("llama-server", 4), ("library", 20.5)]]
        rows += [("best", "SIGTERM under load, 3 times", "qembed-q", "exit status", status) for status in (0, 1, 0)]
        lines = compare_server.report(rows).splitlines()
        self.assertIn(f"| avx2 | {query}: texts/s over llama-server's | 5 | ≥ 4.5 | met |", lines)
        self.assertIn(f"| avx2 | {query}: texts/s over the library's | 0.976 | ≥ 0.95 | met |", lines)
        self.assertIn("| best | SIGTERM: exit status | 1 | ≤ 0 | **short** |", lines)
        self.assertIn(f"| avx2 | {query} | qembed-q | texts/s | 20 (19–90) |", lines)


if __name__ == "__main__":
    unittest.main()
