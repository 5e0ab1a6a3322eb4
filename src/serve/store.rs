//! Results that outlive the program: a database in a folder, written behind the requests' backs.
//!
//! A key has the digest of the model's file in it, so a changed model never finds another's results. A row that cannot be
//! read, or is not whole, counts as none.

use crate::serve::models::{Loaded, Remember};
use crate::serve::results::{Key, State};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows that wait for the disk; more are not kept: the disk does not hold up the work.
const WAITING: usize = 4096;
/// The most bytes of states on the disk; the oldest go first.
const MOST: i64 = 8 << 30;

pub(crate) struct Store {
    reader: Mutex<Connection>,
    writer: Option<SyncSender<(Key, State)>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the database in a folder, which is made if there is none.
    ///
    /// # Errors
    /// When the folder cannot be made, or the file is no such database.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("results.sqlite");
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            // A row is whole or not there, whenever the program is killed; of the last ones some may be lost.
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, state BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS digests (about TEXT PRIMARY KEY, digest BLOB NOT NULL);",
            )?;
            Ok(connection)
        };
        let at = |error: rusqlite::Error| std::io::Error::other(format!("{}: {error}", path.display()));
        let (reader, connection) = (open().map_err(at)?, open().map_err(at)?);
        let (to, from) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || write(connection, from))?;
        Ok(Self { reader: Mutex::new(reader), writer: Some(to), thread: Some(thread) })
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out, on a thread of its own, by what a model's results are known from run to run; until then none is kept.
    pub(crate) fn prepare(self: &Arc<Self>, model: &Arc<Loaded>) {
        if model.wants_digest() {
            let (store, model) = (self.clone(), model.clone());
            // Without a thread there is no digest, and nothing is kept.
            let _ = std::thread::Builder::new().spawn(move || model.find_digest(&*store));
        }
    }

    /// A result that is kept.
    pub(crate) fn get(&self, key: &Key) -> Option<State> {
        if !key.lasting {
            return None;
        }
        let reader = self.reader();
        let mut found = reader.prepare_cached("SELECT state FROM results WHERE key = ?1").ok()?;
        let bytes: Vec<u8> = found.query_row(params![key.hash], |row| row.get(0)).optional().ok()??;
        let (floats, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| floats.iter().map(|x| f32::from_le_bytes(*x)).collect())
    }

    /// Keeps a result, unless the disk is behind.
    pub(crate) fn put(&self, key: Key, state: &State) {
        if let Some(writer) = self.writer.as_ref().filter(|_| key.lasting) {
            let _ = writer.try_send((key, state.clone()));
        }
    }
}

impl Remember for Store {
    fn recall(&self, about: &str) -> Option<[u8; 32]> {
        let query = "SELECT digest FROM digests WHERE about = ?1";
        self.reader().query_row(query, params![about], |row| row.get(0)).optional().ok()?
    }

    fn remember(&self, about: &str, digest: &[u8; 32]) {
        let insert = "INSERT OR REPLACE INTO digests (about, digest) VALUES (?1, ?2)";
        // What is not remembered is found out again.
        let _ = self.reader().execute(insert, params![about, digest]);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes what comes, all that waits at once in one transaction.
fn write(mut connection: Connection, rows: Receiver<(Key, State)>) {
    let mut told = false;
    while let Ok(first) = rows.recv() {
        let write = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            {
                let mut insert =
                    transaction.prepare_cached("INSERT OR IGNORE INTO results (key, state) VALUES (?1, ?2)")?;
                for (key, state) in std::iter::once(first).chain(rows.try_iter().take(WAITING)) {
                    let bytes: Vec<u8> = state.iter().flat_map(|x| x.to_le_bytes()).collect();
                    insert.execute(params![key.hash, bytes])?;
                    let row = transaction.last_insert_rowid();
                    let oldest = row - MOST / bytes.len().max(1) as i64;
                    if row % 1024 == 0 && oldest > 0 {
                        transaction.execute("DELETE FROM results WHERE number < ?1", params![oldest])?;
                    }
                }
            }
            transaction.commit()
        };
        if let Err(error) = write()
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!("results cannot be kept on the disk: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_after_the_program_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let key = |i: u8, lasting| Key { hash: [i; 32], lasting };
        let state: State = vec![1.0, -0.0, f32::MIN_POSITIVE].into();
        let store = Store::open(folder.path()).unwrap();
        store.put(key(1, true), &state);
        store.put(key(2, false), &state);
        store.remember("a file", &[7; 32]);
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        let bits = |state: State| state.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(store.get(&key(1, true)).map(bits), Some(bits(state)));
        assert!(store.get(&key(1, false)).is_none() && store.get(&key(2, true)).is_none());
        assert_eq!((store.recall("a file"), store.recall("another")), (Some([7; 32]), None));
    }
}
