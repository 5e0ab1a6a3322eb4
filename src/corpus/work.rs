//! From rows to finished vectors, in the order of the rows.

use crate::call::normalize;
use crate::control::{Control, Progress};
use crate::corpus::chunks::{Chunker, Chunking, Pool, Structure};
use crate::corpus::job::{DimensionsError, Job, JobControl, JobError, JobProgress, Stage, reason, text_error};
use crate::corpus::journal::{Entry, Journal};
use crate::corpus::known::Known;
use crate::corpus::record::Chunk;
use crate::corpus::row::{Place, Row};
use crate::corpus::write::OutputFormat;
use crate::embedder::Embedder;
use crate::error::Error;
use crate::options::Prompt;
use crate::tokens::{Encoder, Tokens};
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Instructions of rows that are kept ready.
const INSTRUCTIONS: usize = 64;

/// What makes tokens of texts, one for each instruction.
pub(crate) struct Encoders<'a> {
    embedder: &'a Embedder,
    job: &'a Job,
    plain: Encoder<'a>,
    own: RefCell<HashMap<String, Encoder<'a>>>,
}

impl<'a> Encoders<'a> {
    fn new(job: &'a Job, embedder: &'a Embedder) -> Result<Self, Error> {
        Ok(Self { embedder, job, plain: embedder.encoder(&job.embed)?, own: RefCell::default() })
    }

    fn with<T>(&self, instruction: Option<&str>, work: impl FnOnce(&Encoder) -> T) -> Result<T, Error> {
        let Some(instruction) = instruction else { return Ok(work(&self.plain)) };
        let mut own = self.own.borrow_mut();
        if !own.contains_key(instruction) {
            if own.len() >= INSTRUCTIONS {
                own.clear();
            }
            let options = self.job.embed.clone().prompt(Prompt::Instruct(instruction.into()));
            own.insert(instruction.into(), self.embedder.encoder(&options)?);
        }
        Ok(work(&own[instruction]))
    }

    /// The most tokens of a text.
    pub(crate) fn room(&self, instruction: Option<&str>) -> Result<usize, Error> {
        self.with(instruction, |encoder| encoder.room())
    }

    /// Values of a row's vectors, where it asks for another number than all.
    pub(crate) fn own_dimensions(&self, row: &Row) -> Result<Option<usize>, DimensionsError> {
        let all = self.job.embed.dimensions.unwrap_or(self.embedder.dimensions());
        let Some(asked) = row.dimensions.filter(|asked| *asked != all) else { return Ok(None) };
        self.embedder.check_dimensions(Some(asked)).map_err(DimensionsError::Model)?;
        match self.job.format {
            OutputFormat::OpenaiBatch => Ok(Some(asked)),
            format => Err(DimensionsError::Output { asked, all, format }),
        }
    }

    /// A text as tokens.
    pub(crate) fn encode(&self, instruction: Option<&str>, text: &str) -> Result<Tokens, Error> {
        self.with(instruction, |encoder| encoder.encode(0, text))?
    }
}

/// What a record's vector depends on besides the model and what all rows have in common: the SHA-256 of its text, and of the
/// instruction that its row has of its own.
pub(crate) fn hash(instruction: Option<&str>, text: &str) -> [u8; 32] {
    let own = instruction.map_or(String::new(), |task| Prompt::Instruct(task.into()).prefix());
    Sha256::new().chain_update(own).chain_update(text).finalize().into()
}

/// Rows that are being embedded.
pub(crate) struct Work<'a> {
    job: &'a Job,
    embedder: &'a Embedder,
    pub(crate) encoders: Encoders<'a>,
    chunker: Option<Chunker<'a>>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) tokens: u64,
    pub(crate) reused: u64,
}

/// A row whose vectors are on their way.
struct Doing {
    row: u64,
    place: Place,
    records: Vec<Record>,
    /// Pieces without a vector.
    missing: usize,
    tokens: u64,
    failed: Option<String>,
}

/// A record of a row, and what it is made of.
struct Record {
    chunk: Option<Chunk>,
    made: Made,
}

/// A vector, as far as it is there.
enum Made {
    /// As an earlier output has it.
    Known(Vec<u8>),
    /// Of these pieces.
    Of(Vec<Option<Vec<f32>>>),
}

/// A piece of a text that is being computed: its row, record, and number in it.
#[derive(Clone, Copy)]
struct Piece {
    row: u64,
    record: usize,
    number: usize,
    /// Values of its vector, where they are others than those of all.
    dimensions: Option<usize>,
}

/// What is read but not yet in the journal.
struct Queue<'a> {
    journal: &'a mut Journal,
    rows: HashMap<u64, Doing>,
    /// By the number that a piece has in the call.
    pieces: HashMap<usize, Piece>,
    read: usize,
    failure: Option<JobError>,
}

impl<'a> Work<'a> {
    /// Makes ready.
    ///
    /// # Errors
    /// An instruction that leaves no room, chunks that cannot be had.
    pub(crate) fn new(job: &'a Job, embedder: &'a Embedder) -> Result<Self, JobError> {
        let encoders = Encoders::new(job, embedder)?;
        let room = encoders.plain.room();
        let chunker = job.chunking.map(|how| Chunker::new(embedder, how, room)).transpose()?;
        Ok(Self { job, embedder, encoders, chunker })
    }

    /// Embeds the rows that the journal does not have yet.
    ///
    /// # Errors
    /// A row that cannot be embedded, unless such are passed over; an input, a journal or a device that fails; an end that the
    /// caller has set. The rows before are in the journal.
    pub(crate) fn run(
        &self,
        journal: &mut Journal,
        rows: Range<u64>,
        known: Option<&Known>,
        control: &JobControl,
    ) -> Result<Done, JobError> {
        let mut done = Done::default();
        while journal.count() < rows.end - rows.start {
            let before = journal.count();
            let result = self.run_once(journal, &rows, known, control, &mut done);
            journal.flush()?;
            if result.is_err() {
                journal.sync()?;
            }
            result?;
            if journal.count() == before {
                return Err(JobError::Shrunk);
            }
        }
        journal.sync()?;
        Ok(done)
    }

    /// Goes once through the rows that are not done.
    fn run_once(
        &self,
        journal: &mut Journal,
        rows: &Range<u64>,
        known: Option<&Known>,
        control: &JobControl,
        done: &mut Done,
    ) -> Result<(), JobError> {
        let total = rows.end - rows.start;
        let (before, reused, computed) = (done.tokens, Cell::new(0), Cell::new(0));
        // A pass that has begun is finished, whoever ends the job.
        let stop = AtomicBool::new(false);
        let ended = || control.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
        let queue = Queue { journal, rows: HashMap::new(), pieces: HashMap::new(), read: 0, failure: None };
        let queue = RefCell::new(queue);

        let input = self.job.files.rows().skip(rows.start as usize).take(total as usize);
        let mut input = (0u64..).zip(input);
        let mut ready: VecDeque<(Piece, Tokens)> = VecDeque::new();
        let texts = std::iter::from_fn(|| {
            while ready.is_empty() {
                if ended() || queue.borrow().failure.is_some() {
                    return None;
                }
                let (row, item) = input.next()?;
                if queue.borrow().journal.has(row) {
                    continue;
                }
                let doing = match item {
                    Ok(Ok(read)) => self.doing(row, &read, known, &mut ready),
                    Ok(Err(error)) if self.job.skip_errors => {
                        Ok(Doing::failed(row, error.place, error.problem.to_string()))
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(error) => Err(error.into()),
                };
                match doing {
                    Ok(doing) => {
                        let taken = doing.records.iter().filter(|record| matches!(record.made, Made::Known(_)));
                        reused.set(reused.get() + taken.count() as u64);
                        queue.borrow_mut().take_in(doing, self);
                    }
                    Err(error) => queue.borrow_mut().failure = Some(error),
                }
            }
            let (piece, tokens) = ready.pop_front()?;
            queue.borrow_mut().begin(piece);
            Some((tokens, piece.dimensions))
        });
        let each = |i: usize, vector: &[f32], tokens: usize| {
            let mut queue = queue.borrow_mut();
            queue.take_vector(i, vector, tokens, self);
            if queue.failure.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let show = |progress: Progress| {
            computed.set(progress.tokens as u64);
            let mut queue = queue.borrow_mut();
            if let Err(error) = queue.journal.flush() {
                queue.failure.get_or_insert(error.into());
            }
            if queue.failure.is_some() || ended() {
                stop.store(true, Ordering::Relaxed);
            }
            if let Some(progress) = control.progress {
                let rows = queue.journal.count();
                progress(JobProgress {
                    stage: Stage::Embedding,
                    rows,
                    of: Some(total),
                    tokens: before + computed.get(),
                });
            }
        };
        let inner = Control::default().cancel(&stop).deadline(control.deadline).progress(&show as &dyn Fn(_));
        let result = self.embedder.embed_cut_unordered(texts, &self.job.embed, &inner, each);
        done.tokens += computed.get();
        done.reused += reused.get();
        let mut queue = queue.into_inner();
        if let Some(failure) = queue.failure {
            return Err(failure);
        }
        match result {
            // The row of such a text fails; those that were read after it are read again.
            Err(error @ Error::NonFinite { text }) => {
                let row = queue.pieces.get(&text).and_then(|piece| queue.rows.remove(&piece.row));
                let Some(doing) = row else { return Err(error.into()) };
                if !self.job.skip_errors {
                    return Err(text_error(&doing.place, error));
                }
                Ok(queue.journal.push(doing.row, &Entry::Failed(reason(&error)))?)
            }
            Err(error) => Err(error.into()),
            Ok(()) if ended() => Err(Error::Cancelled.into()),
            Ok(()) => Ok(()),
        }
    }

    /// A row, and the tokens that are to be computed for it.
    fn doing(
        &self,
        number: u64,
        row: &Row,
        known: Option<&Known>,
        ready: &mut VecDeque<(Piece, Tokens)>,
    ) -> Result<Doing, JobError> {
        let dimensions = match self.encoders.own_dimensions(row) {
            Ok(dimensions) => dimensions,
            Err(error) if self.job.skip_errors => {
                return Ok(Doing::failed(number, row.place.clone(), error.to_string()));
            }
            Err(source) => return Err(JobError::Dimensions { place: row.place.clone(), source }),
        };
        // An earlier output has none of other dimensions.
        let known = known.filter(|_| dimensions.is_none());
        match self.records(number, row, dimensions, known, ready) {
            Ok(records) => {
                let (place, missing) = (row.place.clone(), ready.len());
                Ok(Doing { row: number, place, records, missing, tokens: 0, failed: None })
            }
            Err(JobError::Embed(error)) if error.text().is_some() => {
                ready.clear();
                if self.job.skip_errors {
                    Ok(Doing::failed(number, row.place.clone(), reason(&error)))
                } else {
                    Err(text_error(&row.place, error))
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The records of a row; what is to be computed for them goes to `ready`, which is empty before.
    fn records(
        &self,
        number: u64,
        row: &Row,
        dimensions: Option<usize>,
        known: Option<&Known>,
        ready: &mut VecDeque<(Piece, Tokens)>,
    ) -> Result<Vec<Record>, JobError> {
        let instruction = row.instruction.as_deref();
        let mut records: Vec<Record> = Vec::new();
        let mut add = |text: &str, chunk: Option<Chunk>, pieces: &[&str]| -> Result<(), JobError> {
            let found = known.map_or(Ok(None), |known| known.vector(&hash(instruction, text)))?;
            let made = match found {
                Some(vector) => Made::Known(vector),
                None => {
                    for (i, piece) in pieces.iter().enumerate() {
                        let piece_of = Piece { row: number, record: records.len(), number: i, dimensions };
                        ready.push_back((piece_of, self.encoders.encode(instruction, piece)?));
                    }
                    Made::Of(vec![None; pieces.len()])
                }
            };
            records.push(Record { chunk, made });
            Ok(())
        };
        let Some((chunker, Chunking { pool, .. })) = self.chunker.as_ref().zip(self.job.chunking) else {
            row.texts.iter().try_for_each(|text| add(text, None, &[text]))?;
            return Ok(records);
        };
        let [text] = &row.texts[..] else { return Err(JobError::ChunkedBatch) };
        let mut chunks = chunker.chunks(text, Structure::of_path(&row.place.file))?;
        if chunks.is_empty() {
            // Blank, or without a character: what becomes of that is said elsewhere.
            let bytes = text.len() as u64;
            chunks.push((Chunk { number: 0, bytes: 0..bytes, lines: (1, 1), tokens: 0..0 }, text));
        }
        if pool == Pool::None {
            chunks.into_iter().try_for_each(|(chunk, piece)| add(piece, Some(chunk), &[piece]))?;
        } else {
            add(text, None, &chunks.iter().map(|(_, piece)| *piece).collect::<Vec<_>>())?;
        }
        Ok(records)
    }

    /// What the journal has of a row whose vectors are all there.
    fn entry(&self, doing: Doing) -> Entry {
        if let Some(reason) = doing.failed {
            return Entry::Failed(reason);
        }
        let pool = self.job.chunking.map_or(Pool::None, |how| how.pool);
        let mut bytes = Vec::new();
        let count = doing.records.len() as u32;
        for record in doing.records {
            if let Some(chunk) = &record.chunk {
                chunk.encode(&mut bytes);
            }
            match record.made {
                Made::Known(known) => bytes.extend_from_slice(&known),
                Made::Of(pieces) => {
                    let pieces = pieces.into_iter().flatten().collect();
                    self.job.dtype.encode(&pooled(pieces, pool), &mut bytes);
                }
            }
        }
        Entry::Vectors { count, tokens: doing.tokens, bytes }
    }
}

/// One vector of those of a text's pieces.
fn pooled(mut pieces: Vec<Vec<f32>>, pool: Pool) -> Vec<f32> {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let dimensions = pieces[0].len();
    let column = |i: usize| pieces.iter().map(move |piece| piece[i]);
    let mean = |i: usize| (column(i).map(f64::from).sum::<f64>() / pieces.len() as f64) as f32;
    let greatest = |i: usize| column(i).fold(f32::NEG_INFINITY, f32::max);
    let mut vector: Vec<f32> = match pool {
        Pool::Max => (0..dimensions).map(greatest).collect(),
        Pool::Mean | Pool::None => (0..dimensions).map(mean).collect(),
    };
    normalize(&mut vector);
    vector
}

impl Doing {
    fn failed(row: u64, place: Place, reason: String) -> Self {
        Self { row, place, records: Vec::new(), missing: 0, tokens: 0, failed: Some(reason) }
    }
}

impl Queue<'_> {
    /// Takes in a row.
    fn take_in(&mut self, doing: Doing, work: &Work) {
        if doing.missing == 0 {
            self.keep(doing, work);
        } else {
            self.rows.insert(doing.row, doing);
        }
    }

    /// The next text of the call is this piece.
    fn begin(&mut self, piece: Piece) {
        self.pieces.insert(self.read, piece);
        self.read += 1;
    }

    /// Takes the vector of a text of the call.
    fn take_vector(&mut self, i: usize, vector: &[f32], tokens: usize, work: &Work) {
        let Some(piece) = self.pieces.remove(&i) else { return };
        let Some(doing) = self.rows.get_mut(&piece.row) else { return };
        if let Made::Of(pieces) = &mut doing.records[piece.record].made {
            pieces[piece.number] = Some(vector.to_vec());
        }
        doing.missing -= 1;
        doing.tokens += tokens as u64;
        if doing.missing == 0
            && let Some(doing) = self.rows.remove(&piece.row)
        {
            self.keep(doing, work);
        }
    }

    /// Gives the journal a row that is whole.
    fn keep(&mut self, doing: Doing, work: &Work) {
        if self.failure.is_some() {
            return;
        }
        let row = doing.row;
        if let Err(error) = self.journal.push(row, &work.entry(doing)) {
            self.failure = Some(error.into());
        }
    }
}
