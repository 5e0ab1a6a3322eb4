//! The texts of a command line: its arguments, and the lines of standard input.

use super::Failure;
use clap::ValueEnum;
use qembed_q::corpus::{LineError, Lines};
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Lines that are read ahead where one has to wait for them.
const AHEAD: usize = 64;

/// What becomes of an empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnEmpty {
    /// It is an error, found before any work where the input can be looked through
    Error,
    /// It gets no vector; for jsonl, whose lines say to which text they belong
    Skip,
    /// It gets the vector of the end token alone, as from the model's reference implementation
    EndToken,
}

type Texts<'a> = Box<dyn Iterator<Item = Result<String, Failure>> + 'a>;

/// Texts, as they stand on the command line.
pub(super) struct Input<'a> {
    arguments: &'a [String],
    on_empty: OnEmpty,
    stdin: Option<Stdin>,
    /// When set, there are no more texts.
    cancel: &'static AtomicBool,
}

impl<'a> Input<'a> {
    /// Reads nothing yet.
    pub(super) fn new(
        arguments: &'a [String],
        on_empty: OnEmpty,
        cancel: &'static AtomicBool,
    ) -> Result<Self, Failure> {
        let dashes = arguments.iter().filter(|text| *text == "-").count();
        if dashes > 1 {
            return Err(Failure::Usage("standard input can be read once: give `-` only once".into()));
        }
        let stdin = (dashes == 1 || arguments.is_empty()).then(Stdin::open);
        Ok(Self { arguments, on_empty, stdin, cancel })
    }

    /// How many texts there are, where that is known.
    pub(super) fn total(&self) -> Option<usize> {
        self.stdin.is_none().then_some(self.arguments.len())
    }

    /// Whether the texts can be looked through before they are embedded.
    pub(super) fn can_be_read_twice(&self) -> bool {
        !matches!(self.stdin, Some(Stdin::Stream))
    }

    /// The texts, up to the first that cannot be had.
    pub(super) fn texts(&self) -> Texts<'_> {
        match &self.stdin {
            Some(stdin) if self.arguments.is_empty() => self.lines(stdin),
            stdin => Box::new(self.arguments.iter().enumerate().flat_map(move |(i, text)| -> Texts<'_> {
                match stdin {
                    Some(stdin) if text == "-" => self.lines(stdin),
                    _ => Box::new(std::iter::once(self.not_empty(text.clone(), || format!("text {}", i + 1)))),
                }
            })),
        }
    }

    /// The lines of standard input, of which there must be one.
    fn lines(&self, stdin: &Stdin) -> Texts<'_> {
        let mut lines = stdin.lines(self.cancel);
        let mut number = 0;
        let fail = |problem: String| Some(Err(Failure::Input(problem)));
        Box::new(std::iter::from_fn(move || {
            number += 1;
            match lines.next() {
                None if number == 1 => fail("standard input is empty: there is nothing to embed".into()),
                None => None,
                Some(Ok(line)) => Some(self.not_empty(line, || format!("line {number} of standard input"))),
                Some(Err(LineError::Read(error))) => fail(format!("cannot read standard input: {error}")),
                Some(Err(error)) => fail(format!("standard input: {error}")),
            }
        }))
    }

    fn not_empty(&self, text: String, name: impl FnOnce() -> String) -> Result<String, Failure> {
        if text.is_empty() && self.on_empty == OnEmpty::Error {
            let name = name();
            return Err(Failure::Input(format!("{name} is empty: remove it, or say with --empty what becomes of it")));
        }
        Ok(text)
    }
}

/// Standard input.
enum Stdin {
    /// One can go back to where it began.
    File {
        file: File,
        start: u64,
    },
    Stream,
}

impl Stdin {
    fn open() -> Self {
        let place =
            |mut file: File| file.metadata().ok()?.is_file().then(|| file.stream_position().ok())?.map(|at| (file, at));
        match duplicate().and_then(place) {
            Some((file, start)) => Stdin::File { file, start },
            None => Stdin::Stream,
        }
    }

    fn lines(&self, cancel: &'static AtomicBool) -> Box<dyn Iterator<Item = Result<String, LineError>>> {
        let from_start = |file: &File, start| {
            let mut file = file.try_clone()?;
            file.seek(SeekFrom::Start(start))?;
            Ok::<_, io::Error>(file)
        };
        match self {
            Stdin::File { file, start } => match from_start(file, *start) {
                Ok(file) => Box::new(Lines::new(BufReader::new(file)).take_while(move |_| !cancel.load(Relaxed))),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            },
            Stdin::Stream => match streamed(cancel) {
                Ok(lines) => Box::new(lines),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            },
        }
    }
}

/// The file behind standard input.
fn duplicate() -> Option<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned();
    owned.ok().map(File::from)
}

/// Lines that are read on a thread of their own, so that who waits for them can be called off.
fn streamed(cancel: &'static AtomicBool) -> io::Result<impl Iterator<Item = Result<String, LineError>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let mut reader = Some(std::thread::Builder::new().spawn(move || {
        let stdin = io::stdin().lock();
        if stdin.is_terminal() {
            say!("qembed-q: reading texts from the terminal, one a line; end with Ctrl-D (Windows: Ctrl-Z, Enter)");
        }
        // Nobody listens any more when there was an error or the run has ended.
        let _ = Lines::new(stdin).try_for_each(|line| sender.send(line));
    })?);
    Ok(std::iter::from_fn(move || {
        while !cancel.load(Relaxed) {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = reader.take().is_none_or(|reader| reader.join().is_ok());
                    assert!(ended, "the reader of standard input has panicked");
                    return None;
                }
            }
        }
        None
    }))
}

/// Counts texts that end with the words of the end token, as people of other programs append it by hand.
#[derive(Default)]
pub(super) struct EndWords(usize);

impl EndWords {
    pub(super) fn look_at(&mut self, text: &str) {
        self.0 += usize::from(text.trim_end().ends_with("<|endoftext|>"));
    }

    /// Says it once, if there were any.
    pub(super) fn warn(&self) {
        let texts = match self.0 {
            0 => return,
            1 => "1 text ends".into(),
            n => format!("{n} texts end"),
        };
        say!(
            "qembed-q: warning: {texts} with the words <|endoftext|>, which are embedded as plain text: leave them away, \
             the end token is appended by itself"
        );
    }
}
