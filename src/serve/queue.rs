//! Texts that wait for a pass, of all requests and models: whose turn is next.
//!
//! Between clients it is fair: each has a clock that runs by the tokens that it asks for, and the text that ends first by its
//! client's clock comes first (start-time fair queueing, Goyal, Vin, Cheng 1996). So one client's ten thousand texts do not
//! stand before another's single one, and nobody waits for ever.

use crate::embedder::Embedder;
use crate::planner::{Planner, Turn};
use crate::serve::results::Key;
use crate::tokens::Tokens;
use std::collections::HashMap;
use std::sync::Arc;

/// Who asks: texts of one client stand in one line.
pub(crate) type Client = u64;

/// A text for the queue; `W` is who waits for it.
pub(crate) struct Incoming<W> {
    pub(crate) key: Key,
    pub(crate) tokens: Tokens,
    pub(crate) waiter: W,
}

/// A text that waits, or is being computed.
struct Job<W> {
    key: Key,
    waiters: Vec<W>,
    turn: Turn,
    /// By the clock of its client.
    start: u64,
    running: bool,
}

/// The texts of one model.
struct Lane<W> {
    model: Arc<Embedder>,
    planner: Planner,
    jobs: HashMap<usize, Job<W>>,
}

/// Texts of a pass, and who waits for them: taken out of the queue, save that others may still join those who wait.
pub(crate) struct Pass {
    pub(crate) model: Arc<Embedder>,
    pub(crate) texts: Vec<(usize, Tokens)>,
    /// The last of its texts' turns.
    pub(crate) turn: Turn,
}

impl Pass {
    /// Its tokens, whatever its texts have in common.
    pub(crate) fn tokens(&self) -> usize {
        self.texts.iter().map(|(_, tokens)| tokens.len()).sum()
    }
}

/// A text that is done, or given up.
pub(crate) struct Finished<W> {
    pub(crate) key: Key,
    pub(crate) waiters: Vec<W>,
}

/// All texts that wait.
pub(crate) struct Queue<W> {
    lanes: Vec<Lane<W>>,
    /// Which lane has a text, and its number there.
    in_flight: HashMap<Key, (usize, usize)>,
    clocks: Clocks,
    /// Still waiting, not in a pass.
    waiting: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { lanes: Vec::new(), in_flight: HashMap::new(), clocks: Clocks::default(), waiting: 0 }
    }
}

impl<W> Queue<W> {
    /// Takes a text in, unless one of the same key is there already: then whoever waits for this one waits for that.
    pub(crate) fn push(&mut self, model: &Arc<Embedder>, client: Client, priority: i64, text: Incoming<W>) {
        let Incoming { key, tokens, waiter } = text;
        if let Some((lane, number)) = self.in_flight.get(&key)
            && let Some(job) = self.lanes[*lane].jobs.get_mut(number)
        {
            job.waiters.push(waiter);
            return;
        }
        let lane = self.lane(model);
        let (start, end) = self.clocks.book(client, tokens.len() as u64);
        let turn = Turn { priority, time: end };
        let Lane { planner, jobs, .. } = &mut self.lanes[lane];
        let number = planner.push_at(turn, tokens);
        jobs.insert(number, Job { key, waiters: vec![waiter], turn, start, running: false });
        self.in_flight.insert(key, (lane, number));
        self.waiting += 1;
    }

    /// A lane for a model; one that nothing waits in is taken over.
    fn lane(&mut self, model: &Arc<Embedder>) -> usize {
        let same = |lane: &Lane<W>| Arc::ptr_eq(&lane.model, model);
        if let Some(lane) = self.lanes.iter().position(same) {
            return lane;
        }
        let lane = Lane { model: model.clone(), planner: Planner::new(model.limits()), jobs: HashMap::new() };
        match self.lanes.iter().position(|lane| lane.jobs.is_empty()) {
            Some(free) => {
                self.lanes[free] = lane;
                free
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() - 1
            }
        }
    }

    /// How many texts wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Tokens of those that wait.
    pub(crate) fn tokens(&self) -> usize {
        self.lanes.iter().map(|lane| lane.planner.tokens()).sum()
    }

    /// Whether the texts of a model that wait are more than a pass takes.
    pub(crate) fn fills_a_pass(&mut self) -> bool {
        self.lanes.iter_mut().any(|lane| lane.planner.fills_a_pass())
    }

    /// Whether neither a text waits nor a pass runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The texts of the next pass; none if none wait.
    pub(crate) fn next(&mut self) -> Option<Pass> {
        let turns = self.lanes.iter_mut().enumerate().filter_map(|(i, lane)| Some((lane.planner.next_turn()?, i)));
        let (_, lane) = turns.min()?;
        let texts = self.lanes[lane].planner.next_pass();
        self.started(lane, texts)
    }

    /// Texts for a small pass between the layers of `within`, which had their turn before it: they need not wait for its end.
    /// Small is what takes but a fraction of the time that is left of the other.
    pub(crate) fn between(&mut self, within: &Pass) -> Option<Pass> {
        /// Of the tokens of the pass that waits meanwhile.
        const SHARE: usize = 16;
        /// What a pass takes besides its tokens, in tokens: it reads all weights.
        const FIXED: usize = 24;
        let most = (within.tokens() / SHARE).checked_sub(FIXED)?;
        // Whichever model it is of, the budget is that of the program.
        let taken = within.model.limits().memory.of_pass(within.tokens(), within.texts.len());
        let mut turns: Vec<_> =
            self.lanes.iter_mut().enumerate().filter_map(|(i, lane)| Some((lane.planner.next_turn()?, i))).collect();
        turns.sort_unstable();
        for (_, i) in turns {
            let lane = &mut self.lanes[i];
            let limits = lane.model.limits();
            let bytes = limits.memory.budget.saturating_sub(taken);
            let texts = lane.planner.pass_between(within.turn, most.min(limits.tokens), bytes);
            if !texts.is_empty() {
                return self.started(i, texts);
            }
        }
        None
    }

    fn started(&mut self, lane: usize, texts: Vec<(usize, Tokens)>) -> Option<Pass> {
        self.waiting -= texts.len();
        let Lane { jobs, model, .. } = &mut self.lanes[lane];
        let (mut last, mut first) = (Turn { priority: i64::MIN, time: 0 }, u64::MAX);
        for (number, _) in &texts {
            let job = jobs.get_mut(number)?;
            job.running = true;
            (last, first) = (last.max(job.turn), first.min(job.start));
        }
        self.clocks.now = self.clocks.now.max(first);
        Some(Pass { model: model.clone(), texts, turn: last })
    }

    /// Who waits for the texts of a pass, in its order; they are done.
    pub(crate) fn finish(&mut self, pass: &Pass) -> Vec<Finished<W>> {
        let mut finished = Vec::new();
        if let Some(lane) = self.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.model, &pass.model)) {
            let jobs = pass.texts.iter().filter_map(|(number, _)| lane.jobs.remove(number));
            finished.extend(jobs.map(|Job { key, waiters, .. }| Finished { key, waiters }));
        }
        for text in &finished {
            self.in_flight.remove(&text.key);
        }
        if self.is_idle() {
            self.clocks.stop();
            self.lanes.clear(); // A model that was replaced is not held.
        }
        finished
    }

    /// Forgets who is no longer `waiting`, and the texts for which nobody waits, save those of passes that run.
    pub(crate) fn forget(&mut self, waiting: impl Fn(&W) -> bool) {
        for Lane { jobs, planner, .. } in &mut self.lanes {
            let before = jobs.len();
            jobs.retain(|_, job| {
                job.waiters.retain(&waiting);
                let keep = job.running || !job.waiters.is_empty();
                if !keep {
                    self.in_flight.remove(&job.key);
                }
                keep
            });
            if jobs.len() < before {
                planner.retain(|number| jobs.contains_key(&number));
                self.waiting -= before - jobs.len();
            }
        }
    }

    /// Whether anybody waits for a text of a pass.
    pub(crate) fn is_wanted(&self, pass: &Pass, waiting: impl Fn(&W) -> bool) -> bool {
        let lane = self.lanes.iter().find(|lane| Arc::ptr_eq(&lane.model, &pass.model));
        let jobs = |lane: &Lane<W>| pass.texts.iter().any(|(number, _)| lane.jobs[number].waiters.iter().any(&waiting));
        lane.is_some_and(jobs)
    }
}

/// The clocks of clients, in tokens.
#[derive(Default)]
struct Clocks {
    /// The start of what is computed now.
    now: u64,
    /// When what a client asked for ends by its clock.
    ends: HashMap<Client, u64>,
}

impl Clocks {
    /// Start and end of a text of so many tokens.
    fn book(&mut self, client: Client, tokens: u64) -> (u64, u64) {
        const MANY: usize = 4096;
        if self.ends.len() > MANY {
            self.ends.retain(|_, end| *end > self.now);
        }
        let end = self.ends.entry(client).or_default();
        let start = self.now.max(*end);
        *end = start + tokens;
        (start, *end)
    }

    /// Nobody waits any more.
    fn stop(&mut self) {
        self.now = self.ends.drain().map(|(_, end)| end).max().unwrap_or(0).max(self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::results::Identity;
    use crate::{EmbedOptions, LoadOptions};

    /// A queue over a model, and a way to put the words of a client into it: waiters are the client's number.
    struct Fixture {
        queue: Queue<Client>,
        model: Arc<Embedder>,
    }

    /// A model of its own, whose passes may take so much memory.
    fn model_within(budget: Option<u64>) -> Arc<Embedder> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        crate::tests::write_model(&path, 4000);
        let load = LoadOptions::default().access(crate::gguf::Access::Read).memory_budget(budget);
        Arc::new(Embedder::open_with(&path, &load).unwrap())
    }

    impl Fixture {
        fn new() -> Self {
            Self { queue: Queue::default(), model: model_within(None) }
        }

        /// A text of about so many tokens, all its own.
        fn push(&mut self, client: Client, priority: i64, name: &str, tokens: usize) {
            self.push_for(&self.model.clone(), client, priority, name, tokens);
        }

        /// The same for another model.
        fn push_for(&mut self, model: &Arc<Embedder>, client: Client, priority: i64, name: &str, tokens: usize) {
            let text = format!("{name}{}", "x".repeat(tokens));
            let tokens = model.tokenize(&[text], &EmbedOptions::default()).unwrap().remove(0);
            // Tests hold their models: none has the place of another.
            let identity = Identity::Number(Arc::as_ptr(model).addr() as u64);
            let key = Key::of(identity, model, &tokens);
            self.queue.push(model, client, priority, Incoming { key, tokens, waiter: client });
        }

        /// The waiters of the texts of a pass, which is done.
        fn done(&mut self, pass: &Pass) -> Vec<Client> {
            self.queue.finish(pass).into_iter().flat_map(|text| text.waiters).collect()
        }
    }

    #[test]
    fn a_single_text_does_not_wait_for_all_of_a_long_list() {
        let mut fixture = Fixture::new();
        for i in 0..100 {
            fixture.push(1, 0, &format!("{i:03}"), 200);
        }
        let pass = fixture.queue.next().unwrap();
        fixture.push(2, 0, "alone", 10);
        assert!(fixture.done(&pass).iter().all(|client| *client == 1));
        let pass = fixture.queue.next().unwrap();
        assert!(fixture.done(&pass).contains(&2), "it is in the next pass");
        // As many of one client's as of another's, whoever came first.
        for i in 0..100 {
            fixture.push(3, 0, &format!("third{i:03}"), 200);
        }
        let mut clients = Vec::new();
        for _ in 0..8 {
            let pass = fixture.queue.next().unwrap();
            clients.extend(fixture.done(&pass));
        }
        // Who comes new may be ahead by a pass.
        let (third, all) = (clients.iter().filter(|client| **client == 3).count(), clients.len());
        assert!(third * 2 + 1 >= all && (third - all / 8) * 2 <= all + 1, "{clients:?}");
    }

    #[test]
    fn lower_priorities_come_first() {
        let mut fixture = Fixture::new();
        fixture.push(1, 1, "later", 900);
        fixture.push(2, 0, "middle", 900);
        fixture.push(3, -1, "sooner", 900);
        for client in [3, 2, 1] {
            let pass = fixture.queue.next().unwrap();
            assert_eq!(fixture.done(&pass), [client]);
        }
        assert!(fixture.queue.next().is_none() && fixture.queue.is_idle());
    }

    #[test]
    fn equal_texts_in_flight_are_one() {
        let mut fixture = Fixture::new();
        fixture.push(1, 0, "same", 10);
        fixture.push(2, 0, "same", 10);
        assert_eq!(fixture.queue.len(), 1);
        let pass = fixture.queue.next().unwrap();
        fixture.push(3, 0, "same", 10); // While it is computed.
        assert_eq!(fixture.queue.len(), 0);
        assert_eq!(fixture.done(&pass), [1, 2, 3]);
    }

    #[test]
    fn who_is_gone_leaves_the_queue() {
        let mut fixture = Fixture::new();
        fixture.push(1, 0, "one", 900);
        let pass = fixture.queue.next().unwrap();
        fixture.push(1, 0, "two", 10);
        fixture.push(2, 0, "three", 10);
        fixture.push(2, 0, "two", 10);
        fixture.queue.forget(|client| *client != 1);
        assert_eq!((fixture.queue.len(), fixture.queue.is_wanted(&pass, |_| true)), (2, false));
        assert_eq!(fixture.done(&pass), [] as [Client; 0]);
        fixture.queue.forget(|client| *client != 2);
        assert!(fixture.queue.is_idle() && fixture.queue.next().is_none() && fixture.queue.tokens() == 0);
    }

    #[test]
    fn short_texts_go_between_the_layers_of_a_long_one() {
        let mut fixture = Fixture::new();
        fixture.push(1, 0, "long", 3000);
        let long = fixture.queue.next().unwrap();
        assert!(fixture.queue.between(&long).is_none());
        fixture.push(2, 0, "short", 10);
        fixture.push(2, 0, "another long one", 3000);
        fixture.push(3, 1, "of low priority", 10);
        let pass = fixture.queue.between(&long).unwrap();
        assert_eq!(pass.texts.len(), 1);
        assert_eq!(fixture.done(&pass), [2]);
        assert!(fixture.queue.between(&long).is_none(), "neither is both short and early");
        // Within a usual pass others can wait.
        fixture.done(&long);
        fixture.push(4, -2, "usual", 300);
        let usual = fixture.queue.next().unwrap();
        fixture.push(5, -3, "short", 10);
        assert!(fixture.queue.between(&usual).is_none());
    }

    #[test]
    fn a_lane_in_which_nothing_is_left_is_taken_over() {
        let mut fixture = Fixture::new();
        let [first, second, third, fourth] = [(); 4].map(|()| model_within(None));
        fixture.push_for(&first, 1, 0, "same", 10);
        fixture.push_for(&second, 2, 1, "same", 10);
        let pass = fixture.queue.next().unwrap();
        // No text of the first model waits, but one is computed.
        fixture.push_for(&third, 3, 2, "same", 10);
        assert_eq!(fixture.done(&pass), [1]);
        let held = Arc::strong_count(&first);
        fixture.push_for(&fourth, 4, 3, "same", 10);
        assert_eq!(Arc::strong_count(&first), held - 1, "the queue holds no model for which nothing waits");
        // Numbers of texts begin anew in it; nobody joins a text of another model.
        fixture.push_for(&fourth, 5, 3, "same", 10);
        fixture.push_for(&first, 6, 4, "same", 10);
        assert_eq!(fixture.queue.len(), 4);
        for (model, waiters) in [(&second, &[2][..]), (&third, &[3]), (&fourth, &[4, 5]), (&first, &[6])] {
            let pass = fixture.queue.next().unwrap();
            assert!(Arc::ptr_eq(&pass.model, model), "of {waiters:?}");
            assert_eq!(fixture.done(&pass), waiters);
        }
        assert!(fixture.queue.is_idle() && fixture.queue.next().is_none());
    }

    #[test]
    fn short_texts_of_one_model_go_between_the_layers_of_another() {
        let mut fixture = Fixture::new();
        let other = model_within(None);
        fixture.push(1, 0, "long", 3000);
        let long = fixture.queue.next().unwrap();
        fixture.push(2, 0, "of its own", 20);
        fixture.push_for(&other, 3, 0, "of the other", 10);
        // Before all of them, but no short one: it keeps nobody else out, of its model or of another.
        fixture.push_for(&other, 4, -1, "long too", 3000);
        // By the first turn of each model, a pass for each.
        for (model, waiters) in [(&other, [3]), (&fixture.model.clone(), [2])] {
            let pass = fixture.queue.between(&long).unwrap();
            assert!(Arc::ptr_eq(&pass.model, model), "of {waiters:?}");
            assert_eq!(fixture.done(&pass), waiters);
        }
        assert!(fixture.queue.between(&long).is_none(), "the other's long one waits");
        assert_eq!((fixture.done(&long), fixture.queue.len()), (vec![1], 1));
        let pass = fixture.queue.next().unwrap();
        assert!(Arc::ptr_eq(&pass.model, &other));
        assert_eq!(fixture.done(&pass), [4]);
    }

    #[test]
    fn a_pass_and_what_goes_between_its_layers_take_no_more_than_the_budget() {
        let memory = model_within(None).limits().memory;
        // Four letters of the name and the end token.
        let both = memory.of_pass(3000 + 5, 1) + memory.of_pass(10 + 5, 1);
        for (budget, fits) in [(both - 1, false), (both, true)] {
            let [model, other] = [(); 2].map(|()| model_within(Some(budget)));
            for short in [&model, &other] {
                let mut fixture = Fixture { queue: Queue::default(), model: model.clone() };
                fixture.push(1, 0, "long", 3000);
                let long = fixture.queue.next().unwrap();
                fixture.push_for(short, 2, 0, "next", 10);
                let own = Arc::ptr_eq(short, &model);
                assert_eq!(fixture.queue.between(&long).is_some(), fits, "its own: {own}, within {budget}");
            }
        }
    }
}
