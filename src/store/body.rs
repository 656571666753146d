//! The body of a message on its way: in memory while it is small, in a file without a name when not.
//!
//! Owns [`BodyWriter`] (fed by the listener), [`Body`] (whole, immutable, cheap to clone) and
//! [`BodyReader`] (a stream of chunks, from the start, as often as wanted). Nothing here holds more
//! than [`limits::BODY_IN_MEMORY_BYTES`] of a message. The file is gone when the last handle on it
//! is, or when the process dies; what must outlive that is submitted to the store.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use crate::base::{QueueId, limits};
use crate::store::{Store, StoreError};

/// Takes a body chunk by chunk.
#[derive(Debug)]
pub struct BodyWriter {
    folder: PathBuf,
    /// What is not in the file (yet).
    buffer: BytesMut,
    file: Option<Arc<File>>,
    /// Bytes in the file.
    spilled: u64,
    /// A write failed or was given up half way: what there is is not the body.
    is_broken: bool,
}

impl BodyWriter {
    /// An empty body, which goes to an unnamed file in `temporary` if it grows.
    pub fn new(temporary: &Path) -> Self {
        Self {
            folder: temporary.to_owned(),
            buffer: BytesMut::new(),
            file: None,
            spilled: 0,
            is_broken: false,
        }
    }

    /// Takes the next bytes. After an error the body is lost.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        if self.buffer.len() + chunk.len() > limits::BODY_IN_MEMORY_BYTES {
            self.spill().await?;
        }
        match chunk.len() > limits::BODY_IN_MEMORY_BYTES {
            true => self.append(chunk).await.map(drop),
            false => {
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.spilled + self.buffer.len() as u64
    }

    /// True if nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body is whole.
    pub async fn finish(mut self) -> Result<Body, StoreError> {
        if self.file.is_some() {
            self.spill().await?;
        }
        if self.is_broken {
            return Err(self.broken());
        }
        Ok(Body(match self.file {
            Some(file) => Source::File { file, folder: self.folder.into(), length: self.spilled },
            None => Source::Memory(self.buffer.freeze()),
        }))
    }

    /// Moves the buffer to the file.
    async fn spill(&mut self) -> Result<(), StoreError> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => {
                // The same memory all the way: a large body must not leave a trail of freed blocks.
                let buffer = std::mem::take(&mut self.buffer);
                self.buffer = self.append(buffer).await?;
                self.buffer.clear();
                Ok(())
            }
        }
    }

    /// Appends to the file, and gives the bytes back.
    async fn append<B>(&mut self, bytes: B) -> Result<B, StoreError>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        if self.is_broken {
            return Err(self.broken());
        }
        // Stays true if the caller drops this future before the write is known to have worked.
        self.is_broken = true;
        let (file, folder, at) = (self.file.clone(), self.folder.clone(), self.spilled);
        let length = bytes.as_ref().len() as u64;
        let written = spawn_blocking(move || {
            let file =
                match file {
                    Some(file) => file,
                    None => Arc::new(tempfile::tempfile_in(&folder).map_err(|error| {
                        StoreError::from_io("creating a file in", &folder, &error)
                    })?),
                };
            file.write_all_at(bytes.as_ref(), at)
                .map_err(|error| StoreError::from_io("writing a file in", &folder, &error))?;
            Ok((file, bytes))
        });
        let (file, bytes) = written.await.map_err(|_| StoreError::Closed)??;
        self.file = Some(file);
        self.spilled += length;
        self.is_broken = false;
        Ok(bytes)
    }

    fn broken(&self) -> StoreError {
        StoreError::Misuse { what: "a body was used after a write of it had failed".to_owned() }
    }
}

/// A whole body. Clones share it.
#[derive(Clone)]
pub struct Body(Source);

#[derive(Clone)]
enum Source {
    Memory(Bytes),
    File { file: Arc<File>, folder: Arc<Path>, length: u64 },
}

impl Body {
    /// Bytes of it.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { length, .. } => *length,
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads it from the start. Several readers do not disturb each other.
    pub fn reader(&self) -> BodyReader {
        BodyReader(match &self.0 {
            Source::Memory(bytes) => Origin::Memory(bytes.clone()),
            Source::File { .. } => Origin::File { body: self.clone(), at: 0 },
        })
    }

    /// Fills `buffer` with the bytes from `at` on, as far as there are any, and says how many. Blocks
    /// on the disk.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let rest = self.len().saturating_sub(at);
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        match &self.0 {
            Source::Memory(bytes) => {
                let start = bytes.len() - usize::try_from(rest).unwrap_or(bytes.len());
                buffer[..wanted].copy_from_slice(&bytes[start..start + wanted]);
            }
            Source::File { file, folder, .. } => file
                .read_exact_at(&mut buffer[..wanted], at)
                .map_err(|error| StoreError::from_io("reading a file in", folder, &error))?,
        }
        Ok(wanted)
    }
}

impl From<Bytes> for Body {
    /// A body that is in memory anyway, like a notice of ours.
    fn from(bytes: Bytes) -> Self {
        Self(Source::Memory(bytes))
    }
}

impl fmt::Debug for Body {
    /// Says how long it is and where; content does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.0 {
            Source::Memory(_) => "memory",
            Source::File { .. } => "a file",
        };
        write!(f, "[{} bytes in {place}]", self.len())
    }
}

/// Streams a body once.
pub struct BodyReader(Origin);

enum Origin {
    Memory(Bytes),
    File { body: Body, at: u64 },
    Store { store: Store, id: QueueId, index: u32, read: u64 },
}

impl BodyReader {
    /// Of a stored message: its prologue and its body, as they are to be sent.
    pub(super) fn stored(store: Store, id: QueueId) -> Self {
        Self(Origin::Store { store, id, index: 0, read: 0 })
    }

    /// The next chunk, which is never empty, or `None` at the end. An error is never mistaken for
    /// the end, and a body that is shorter than it was is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match &mut self.0 {
            Origin::Memory(rest) => {
                let length = rest.len().min(limits::CHUNK_OCTETS);
                Ok((length > 0).then(|| rest.split_to(length)))
            }
            Origin::File { body, at } => {
                let left = usize::try_from(body.len() - *at).unwrap_or(usize::MAX);
                let length = left.min(limits::CHUNK_OCTETS);
                if length == 0 {
                    return Ok(None);
                }
                let (source, start) = (body.clone(), *at);
                let read = spawn_blocking(move || {
                    let mut chunk = vec![0; length];
                    source.read_at(start, &mut chunk)?;
                    Ok::<_, StoreError>(Bytes::from(chunk))
                });
                let chunk = read.await.map_err(|_| StoreError::Closed)??;
                *at += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Origin::Store { store, id, index, read } => {
                let (chunk, size) = store.stored_chunk(*id, *index).await?;
                match chunk {
                    Some(chunk) => {
                        *index += 1;
                        *read += chunk.len() as u64;
                        Ok(Some(chunk))
                    }
                    None if *read == size => Ok(None),
                    None => Err(StoreError::Damaged {
                        what: format!("the body of {id} has {read} bytes and should have {size}"),
                        remedy: "send the message again".to_owned(),
                    }),
                }
            }
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Origin::Memory(_) => "[body in memory]",
            Origin::File { .. } => "[body in a file]",
            Origin::Store { .. } => "[body in the store]",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn write(folder: &Path, chunks: &[Vec<u8>]) -> Body {
        let mut writer = BodyWriter::new(folder);
        for chunk in chunks {
            writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let length = writer.len();
        let body = writer.finish().await.unwrap();
        assert_eq!(body.len(), length);
        body
    }

    async fn read(body: &Body) -> Vec<u8> {
        let (mut reader, mut all) = (body.reader(), Vec::new());
        while let Some(chunk) = reader.next().await.unwrap() {
            assert!(!chunk.is_empty() && chunk.len() <= limits::CHUNK_OCTETS);
            all.extend_from_slice(&chunk);
        }
        assert!(reader.next().await.unwrap().is_none(), "the end is the end");
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_split_gives_the_same_body(
            lengths in prop::collection::vec(0usize..200_000, 0..12), seed in any::<u8>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let byte = |at: usize| (at as u8).wrapping_mul(31).wrapping_add(seed);
            let chunks: Vec<Vec<u8>> =
                lengths.iter().map(|&length| (0..length).map(byte).collect()).collect();
            block_on(async {
                let body = write(folder.path(), &chunks).await;
                let whole = chunks.concat();
                let is_in_memory = matches!(body.0, Source::Memory(_));
                assert_eq!(is_in_memory, whole.len() <= limits::BODY_IN_MEMORY_BYTES);
                assert_eq!(read(&body).await, whole);
                // Two readers at a time, on clones, in turns.
                let (mut one, mut two) = (body.clone().reader(), body.reader());
                loop {
                    let chunk = one.next().await.unwrap();
                    assert_eq!(chunk, two.next().await.unwrap());
                    if chunk.is_none() { break; }
                }
            });
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");
        }
    }

    #[test]
    fn the_limit_is_the_border_between_memory_and_file() {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let border = limits::BODY_IN_MEMORY_BYTES;
            for (length, is_in_memory) in [(0, true), (border, true), (border + 1, false)] {
                let body = write(folder.path(), &[vec![b'x'; length]]).await;
                assert_eq!(matches!(body.0, Source::Memory(_)), is_in_memory, "{length}");
                assert_eq!(read(&body).await.len(), length);
            }
        });
    }

    #[test]
    fn a_writer_that_failed_never_gives_a_body() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        block_on(async {
            let mut writer = BodyWriter::new(&gone);
            let large = Bytes::from(vec![b'x'; limits::BODY_IN_MEMORY_BYTES + 1]);
            assert!(writer.write(large.clone()).await.is_err());
            std::fs::create_dir(&gone).unwrap();
            assert!(writer.write(large).await.is_err(), "the first part is lost");
            assert!(writer.finish().await.is_err());
        });
    }
}
