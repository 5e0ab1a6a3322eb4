//! Does a job: looks through the rows, embeds them into the journal, and writes the output from it.

use crate::corpus::chunks::Chunking;
use crate::corpus::job::{Job, JobControl, JobError, JobProgress, Part, Stage, Summary, text_error};
use crate::corpus::journal::{Identity, Journal, Start};
use crate::corpus::known::Known;
use crate::corpus::model::Model;
use crate::corpus::output;
use crate::corpus::read::Survey;
use crate::corpus::record::{Layout, PART};
use crate::corpus::row::Row;
use crate::corpus::unique::{Names, name};
use crate::corpus::work::{Encoders, Work};
use crate::corpus::write::OutputFormat;
use crate::error::Error;
use crate::options::Empty;

impl Job {
    /// Does it.
    ///
    /// # Errors
    /// What is wrong with rows, before anything is computed, unless they are passed over; and whatever keeps the work from being done. What is done
    /// then stays in the journal.
    pub fn run(&self, model: &Model, control: &JobControl) -> Result<Summary, JobError> {
        let embedder = model.embedder();
        let dimensions = embedder.check_dimensions(self.embed.dimensions)?;
        if !self.embed.normalize {
            return Err(JobError::NotNormalized);
        }
        let first = output::first_file(self);
        // One that stands beside a journal is about to be replaced: the run was interrupted after it had been written.
        if first.exists() && !self.overwrite && !(self.resume && self.journal().exists()) {
            // It does not tell of what input it is, so nobody is told that it is what was asked for.
            return Err(if self.resume { JobError::Whole(first) } else { JobError::Exists(first) });
        }
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(JobError::NoFolder(folder.to_owned()));
        }
        let work = Work::new(self, embedder)?;
        let survey = self.survey(&work.encoders, control)?;
        let all = survey.rows + survey.bad;
        let rows = self.part.map_or(0..all, |part| part.rows(all));
        let layout = Layout {
            id: survey.id.clone(),
            columns: survey.columns.clone(),
            chunked: self.chunked(),
            dimensions,
            dtype: self.dtype,
            metadata: self.metadata(model, dimensions),
        };
        // What cannot be written is said before anything is computed.
        let sink = output::sink(self, &layout)?;
        let known = self.update.as_deref().map(|path| Known::open(path, &layout)).transpose()?;
        let start = match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (false, true) => Start::Over,
            (false, false) => Start::New,
        };
        let mut journal = Journal::open(&self.journal(), &self.identity(&layout)?, start)?;
        let resumed = journal.count();
        let done = work.run(&mut journal, rows.clone(), known.as_ref(), control)?;
        drop(sink);
        let output = output::write(self, &layout, &journal, rows.clone(), control)?;
        journal.remove().map_err(JobError::JournalRead)?;
        Ok(Summary {
            rows: rows.end - rows.start,
            vectors: output.vectors,
            failed: output.failed,
            errors: (output.failed > 0).then(|| output::errors_path(&self.output)),
            resumed,
            reused: done.reused,
            tokens: done.tokens,
            files: output.written.files,
            stale: output.written.stale,
        })
    }

    /// Looks at all rows.
    fn survey(&self, encoders: &Encoders, control: &JobControl) -> Result<Survey, JobError> {
        let mut seen = 0u64;
        let unique = self.unique_ids || self.format == OutputFormat::Sqlite;
        // Numbers of rows are not the same twice.
        let names = (unique && self.files.source().id.is_some()).then(Names::new).transpose()?;
        let survey = self.files.survey(|row| {
            if seen.is_multiple_of(1024) {
                control.ended()?;
                if let Some(progress) = control.progress {
                    progress(JobProgress { stage: Stage::Looking, rows: seen, of: None, tokens: 0 });
                }
            }
            seen += 1;
            if let (Some(names), Ok(row)) = (&names, &row)
                && let Some(first) = names.add(row)?
            {
                return Err(JobError::SameId { place: row.place.clone(), id: name(&row.id), first });
            }
            match row {
                Ok(row) if !self.skip_errors => self.check(&row, encoders),
                Err(error) if !self.skip_errors => Err(error.into()),
                _ => Ok(()),
            }
        })?;
        if survey.rows + survey.bad == 0 {
            return Err(JobError::NoRows);
        }
        match survey.unseen.first() {
            Some(field) => Err(JobError::Unseen(field.clone())),
            None => Ok(survey),
        }
    }

    /// Whether a row can be embedded, as far as that is quickly said.
    fn check(&self, row: &Row, encoders: &Encoders) -> Result<(), JobError> {
        if self.chunking.is_some() && row.texts.len() != 1 {
            return Err(JobError::ChunkedBatch);
        }
        if let Err(source) = encoders.own_dimensions(row) {
            return Err(JobError::Dimensions { place: row.place.clone(), source });
        }
        for text in &row.texts {
            let room = encoders.room(row.instruction.as_deref())?;
            let checked = match (text.is_empty(), self.chunking.is_some() || self.embed.truncate.is_some()) {
                (true, _) if self.embed.empty == Empty::Refuse => Err(Error::EmptyText { text: 0 }),
                // No token is shorter than a byte.
                (_, false) if text.len() > room => encoders.encode(row.instruction.as_deref(), text).map(drop),
                _ => Ok(()),
            };
            checked.map_err(|source| text_error(&row.place, source))?;
        }
        Ok(())
    }

    /// What the output says of itself.
    fn metadata(&self, model: &Model, dimensions: usize) -> Vec<(String, String)> {
        let embedder = model.embedder();
        let mut all = vec![
            ("qembed.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("qembed.model", model.name().to_owned()),
            ("qembed.model_sha256", model.sha256().to_owned()),
            ("qembed.level", model.level().to_owned()),
            ("qembed.isa", embedder.isa().to_owned()),
            ("qembed.dimensions", dimensions.to_string()),
            ("qembed.dtype", self.dtype.name().to_owned()),
            ("qembed.instruction", self.embed.prompt.prefix()),
            ("qembed.text", self.files.source().text.to_string()),
        ];
        if let Some(Chunking { tokens, overlap, pool }) = self.chunking {
            all.push(("qembed.chunk", format!("tokens={tokens},overlap={overlap},pool={pool:?}").to_lowercase()));
        }
        if let Some(end) = self.embed.truncate {
            all.push(("qembed.truncate", format!("{end:?}").to_lowercase()));
        }
        if let Some(Part { number, of }) = self.part {
            all.push((PART, format!("{number}/{of}")));
        }
        let all = all.into_iter().map(|(name, value)| (name.to_owned(), value));
        all.chain(self.dtype.metadata(dimensions)).collect()
    }

    /// What has to be the same for a journal to be gone on with.
    fn identity(&self, layout: &Layout) -> Result<Identity, JobError> {
        let mut identity = layout.metadata.clone();
        let mut add = |name: &str, value: String| identity.push((name.to_owned(), value));
        add("the format of the output", format!("{:?}", self.format));
        add("the treatment of empty texts", format!("{:?}", self.embed.empty));
        add("whether rows that fail are passed over", self.skip_errors.to_string());
        add("rows of a file", format!("{:?}", self.shard_rows));
        add("columns", format!("{:?} {:?}", layout.id, layout.columns));
        add(
            "the output that is updated",
            self.update.as_ref().map_or(String::new(), |path| path.display().to_string()),
        );
        for file in self.files.fingerprint(|_| ())?.files {
            add(&format!("input {}", file.path), format!("{} bytes, SHA-256 {}", file.bytes, file.sha256));
        }
        Ok(identity)
    }
}
