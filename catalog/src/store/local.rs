//! A folder as an object store, on which a put that succeeded survives a power loss.
//!
//! `object_store`'s own local store writes a temporary file and links or renames it, but never
//! syncs: after a power loss the object may be gone or empty. Here a put is: write a temporary file
//! in the same folder, sync it, link it (create) or rename it (overwrite) to its name, sync the
//! folder. A name therefore never shows a half-written object, and what was acknowledged stays.
//! Reading, listing and deleting are delegated.
//!
//! Folders must be durable too before anything in them is. Each folder's chain of parents is synced
//! the first time this process writes into it, whoever created it: another task, or another process
//! that died before its own sync.
//!
//! Temporary names end in `#` and digits, which listings of `object_store` leave out.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use parking_lot::Mutex;

const STORE: &str = "local folder";

/// Temporary files that nobody has touched for so long belong to a process that died.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// A name is taken or a folder is removed once in a while, not a hundred times in a row.
const TEMPORARY_TRIES: usize = 100;

/// A folder as an object store; see the module.
#[derive(Debug)]
pub struct LocalStore {
    reader: LocalFileSystem,
    folders: Arc<Folders>,
}

/// What puts share.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    /// Folders whose entries up to the root are on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Makes temporary names; starts at random, so that two processes seldom meet.
    next_temporary: AtomicU64,
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folders.root.display())
    }
}

impl LocalStore {
    /// Opens a folder, and creates it if it is not there.
    ///
    /// Temporary files of dead processes are removed in the background (or here, outside a
    /// runtime): looking for them takes as long as there are files, and nothing may wait for
    /// that.
    #[expect(
        clippy::disallowed_methods,
        reason = "a folder of the machine; no simulation runs on one"
    )]
    pub fn open(folder: impl AsRef<FilePath>) -> Result<Self> {
        let folder = folder.as_ref();
        // The parents are synced with the first put, from the real path.
        fs::create_dir_all(folder).map_err(|error| failed("create folder", folder, error))?;
        let store = Self::open_existing(folder)?;
        let sweep = {
            let root = store.folders.root.clone();
            move || remove_leftovers(&root, LEFTOVER_AGE)
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(sweep)),
            Err(_) => sweep(),
        }
        Ok(store)
    }

    /// Opens a folder that is there, and changes nothing in it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a folder of the machine; no simulation runs on one"
    )]
    pub fn open_existing(folder: impl AsRef<FilePath>) -> Result<Self> {
        let folder = folder.as_ref();
        let root =
            fs::canonicalize(folder).map_err(|error| failed("find folder", folder, error))?;
        let reader = LocalFileSystem::new_with_prefix(&root)?;
        let folders = Folders {
            root,
            durable: Mutex::new(HashSet::new()),
            next_temporary: AtomicU64::new(rand::random()),
        };
        Ok(Self {
            reader,
            folders: Arc::new(folders),
        })
    }
}

impl Folders {
    /// Opens a new temporary file beside `target`, in a folder that is durable.
    fn temporary(&self, target: &FilePath) -> io::Result<(File, PathBuf)> {
        let parent = parent_of(target)?;
        if !self.durable.lock().contains(parent) {
            self.make_durable(parent)?;
        }
        for _ in 0..TEMPORARY_TRIES {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let mut name = target.as_os_str().to_owned();
            name.push(format!("#{number:020}"));
            let path = PathBuf::from(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // Somebody removed the folder, and who knows what above it.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.durable.lock().clear();
                    self.make_durable(parent)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no temporary file can be made beside it"))
    }

    /// Creates a folder with its parents, and syncs each folder that has one of them as its entry.
    /// Parents of the root are included once, since it may just have been created. The folder
    /// itself is synced, too: what another process has put there and did not live to sync may be
    /// what the next object goes on from.
    fn make_durable(&self, folder: &FilePath) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for parent in folder.ancestors() {
            match sync_folder(parent) {
                // Above the root there may be folders that we may not open; those were not made by
                // us.
                Err(_) if !parent.starts_with(&self.root) => break,
                result => result?,
            }
            if self.durable.lock().contains(parent) {
                break;
            }
        }
        let mut durable = self.durable.lock();
        durable.extend(folder.ancestors().map(FilePath::to_path_buf));
        Ok(())
    }
}

impl Folders {
    /// Gives a temporary file its name. If the folder could not be synced, it is before the next
    /// object gets its name there.
    fn name(&self, temporary: Temporary, target: &FilePath, create: bool) -> Result<()> {
        let named = match create {
            true => temporary.link(target),
            false => temporary.rename(target),
        };
        if let (Err(Error::Generic { .. }), Ok(folder)) = (&named, parent_of(target)) {
            self.durable.lock().remove(folder);
        }
        named
    }
}

fn parent_of(path: &FilePath) -> io::Result<&FilePath> {
    path.parent()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a path without a folder"))
}

fn sync_folder(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(what: &str, path: &FilePath, source: io::Error) -> Error {
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::NotFound => Error::NotFound {
            path,
            source: source.into(),
        },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::PermissionDenied {
            path,
            source: source.into(),
        },
        // The cause keeps its kind: "no space left" is found through the wrapping.
        kind => Error::Generic {
            store: STORE,
            source: io::Error::new(kind, format!("cannot {what} {path}: {source}")).into(),
        },
    }
}

/// A temporary file that is removed unless it got its name.
struct Temporary {
    path: Option<PathBuf>,
}

impl Temporary {
    /// Gives the file its name if there is none by it.
    fn link(mut self, target: &FilePath) -> Result<()> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        let linked = fs::hard_link(&path, target);
        // Left behind it would be a second name of a good file, which the next start removes.
        let _ = fs::remove_file(&path);
        let folder = parent_of(target).map_err(|error| failed("write", target, error))?;
        match linked {
            Ok(()) => {
                sync_folder(folder).map_err(|error| failed("sync the folder of", target, error))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Whoever reads it back may take it for their own and acknowledge it: it must be
                // durable, even if the sync of the one who wrote it is still to
                // come, or failed.
                File::open(target)
                    .and_then(|file| file.sync_all())
                    .and_then(|()| sync_folder(folder))
                    .map_err(|error| failed("sync", target, error))?;
                Err(Error::AlreadyExists {
                    path: target.display().to_string(),
                    source: error.into(),
                })
            }
            Err(error) => Err(failed("create", target, error)),
        }
    }

    /// Gives the file its name, in place of one that may have it.
    fn rename(mut self, target: &FilePath) -> Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        fs::rename(path, target).map_err(|error| failed("write", target, error))?;
        self.path = None;
        parent_of(target)
            .and_then(sync_folder)
            .map_err(|error| failed("sync the folder of", target, error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = fs::remove_file(path);
        }
    }
}

fn put(
    folders: &Folders,
    target: &FilePath,
    payload: &PutPayload,
    create: bool,
) -> Result<PutResult> {
    let (mut file, path) = folders
        .temporary(target)
        .map_err(|error| failed("create", target, error))?;
    let temporary = Temporary { path: Some(path) };
    payload
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .map_err(|error| failed("write", target, error))?;
    // sync_data includes the length; the rest of the metadata may be lost.
    file.sync_data()
        .map_err(|error| failed("sync", target, error))?;
    drop(file);
    folders.name(temporary, target, create)?;
    Ok(PutResult {
        e_tag: None,
        version: None,
    })
}

/// Runs blocking work; a panic of it is an error.
#[expect(
    clippy::disallowed_methods,
    reason = "a folder of the machine; no simulation runs on one"
)]
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn not_implemented<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    })
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return not_implemented("conditional update"),
        };
        let target = self.reader.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || put(&folders, &target, &payload, create)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let target = self.reader.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            let (file, path) = folders
                .temporary(&target)
                .map_err(|error| failed("create", &target, error))?;
            let upload = Upload {
                folders: Arc::clone(&folders),
                file: Arc::new(file),
                temporary: Some(Temporary { path: Some(path) }),
                target: target.into(),
                offset: 0,
            };
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reader.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.reader.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reader.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reader.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reader.list_with_delimiter(prefix).await
    }

    /// Refused: a copy that is not synced would break what this store is for, and nothing needs
    /// one.
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        not_implemented("copy")
    }
}

/// An upload in parts: one temporary file, written at offsets.
struct Upload {
    folders: Arc<Folders>,
    file: Arc<File>,
    temporary: Option<Temporary>,
    target: Arc<FilePath>,
    offset: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} at {})", self.target.display(), self.offset)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, target, mut at) = (
            Arc::clone(&self.file),
            Arc::clone(&self.target),
            self.offset,
        );
        self.offset += data.content_length() as u64;
        Box::pin(blocking(move || {
            for bytes in &data {
                file.write_all_at(bytes, at)
                    .map_err(|error| failed("write", &target, error))?;
                at += bytes.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(temporary) = self.temporary.take() else {
            return Err(Error::Generic {
                store: STORE,
                source: "the upload was completed or aborted before".into(),
            });
        };
        let (file, target, length) = (
            Arc::clone(&self.file),
            Arc::clone(&self.target),
            self.offset,
        );
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            // A part that failed or was never waited for leaves a hole or a shorter file.
            let written = file
                .metadata()
                .map_err(|error| failed("read the length of", &target, error))?
                .len();
            if written != length {
                let reason = format!(
                    "{} of {length} bytes of {} were written",
                    written,
                    target.display()
                );
                return Err(Error::Generic {
                    store: STORE,
                    source: reason.into(),
                });
            }
            file.sync_data()
                .map_err(|error| failed("sync", &target, error))?;
            folders.name(temporary, &target, false)?;
            Ok(PutResult {
                e_tag: None,
                version: None,
            })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let temporary = self.temporary.take();
        blocking(move || {
            drop(temporary);
            Ok(())
        })
        .await
    }
}

/// Whether a file name is one of our temporary ones.
fn is_temporary(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, digits)| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Calls `visit` with each temporary file and how long nobody has written to it. What cannot be
/// read is passed over.
fn visit_temporaries(root: &FilePath, mut visit: impl FnMut(&FilePath, Duration)) {
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_temporary(&entry.file_name().to_string_lossy()) {
                let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
                visit(
                    &entry.path(),
                    modified
                        .and_then(|time| time.elapsed().ok())
                        .unwrap_or_default(),
                );
            }
        }
    }
}

/// Temporary files below a folder, by their paths in it, and for how long nobody has written to
/// them.
pub fn temporaries(root: &FilePath) -> Vec<(String, Duration)> {
    let mut found = Vec::new();
    visit_temporaries(root, |path, age| {
        found.push((
            path.strip_prefix(root)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned(),
            age,
        ));
    });
    found.sort();
    found
}

/// Removes temporary files that nobody has written to for `age`. What cannot be removed is left.
fn remove_leftovers(root: &FilePath, age: Duration) {
    let mut removed = 0usize;
    visit_temporaries(root, |path, untouched| {
        removed += usize::from(untouched >= age && fs::remove_file(path).is_ok())
    });
    if removed > 0 {
        tracing::info!(removed, folder = %root.display(), "removed temporary files that a former process left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PutOutcome, S3Settings, Store, StoreError};

    #[tokio::test]
    async fn leftovers_are_neither_listed_nor_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (deep, ours) = (folder.path().join("wal/n"), "wal/n/00000000000000000001");
        fs::create_dir_all(&deep).unwrap();
        let leftover = deep.join("00000000000000000001#12345678901234567890");
        fs::write(&leftover, "half").unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &S3Settings::default()).unwrap();
        assert_eq!(
            store.put_if_absent(ours, "whole").await.unwrap(),
            PutOutcome::Created
        );
        let keys = futures::TryStreamExt::try_collect::<Vec<_>>(store.list("wal"))
            .await
            .unwrap();
        assert_eq!(
            keys.iter()
                .map(|info| info.key.as_str())
                .collect::<Vec<_>>(),
            [ours]
        );

        remove_leftovers(folder.path(), Duration::from_secs(3600));
        assert!(leftover.exists(), "a young one may be in use");
        remove_leftovers(folder.path(), Duration::ZERO);
        assert!(!leftover.exists());
        assert_eq!(&store.get(ours).await.unwrap()[..], b"whole");
    }

    #[tokio::test]
    async fn a_put_leaves_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &S3Settings::default()).unwrap();
        store.put("a/b", "1").await.unwrap();
        store.put_if_absent("a/b", "2").await.unwrap();
        store.put_if_absent("a/c", "3").await.unwrap();
        let mut upload = store
            .object_store()
            .put_multipart_opts(&store.path("a/d").unwrap(), Default::default())
            .await
            .unwrap();
        upload.put_part("4".into()).await.unwrap();
        drop(upload);
        let mut names: Vec<_> = fs::read_dir(folder.path().join("a"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["b", "c"]);
    }

    #[tokio::test]
    async fn a_folder_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &S3Settings::default()).unwrap();
        store.put("a/b/c", "1").await.unwrap();
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        store.put("a/b/c", "2").await.unwrap();
        assert_eq!(&store.get("a/b/c").await.unwrap()[..], b"2");
    }

    #[tokio::test]
    async fn an_upload_whose_part_was_not_written_does_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &S3Settings::default()).unwrap();
        let mut upload = store
            .object_store()
            .put_multipart_opts(&store.path("a").unwrap(), Default::default())
            .await
            .unwrap();
        upload.put_part("1".into()).await.unwrap();
        drop(upload.put_part("2".into()));
        upload.complete().await.unwrap_err();
        assert!(matches!(
            store.get("a").await,
            Err(StoreError::NotFound { .. })
        ));
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let check = |kind: ErrorKind, full: bool| {
            let error = failed("write", FilePath::new("/x"), io::Error::new(kind, "no"));
            let error = StoreError::from_object_store("x", &error);
            assert_eq!(matches!(error, StoreError::Full { .. }), full, "{error:?}");
            assert_eq!(
                matches!(error, StoreError::Unavailable { .. }),
                !full,
                "{error:?}"
            );
        };
        check(ErrorKind::StorageFull, true);
        check(ErrorKind::QuotaExceeded, true);
        check(ErrorKind::TimedOut, false);
    }

    /// `/dev/full` answers "no space left" to every write.
    #[test]
    fn the_systems_own_error_for_a_full_disk_is_known() {
        let error = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .write_all(b"x")
            .unwrap_err();
        let error = failed("write", FilePath::new("/dev/full"), error);
        assert!(matches!(
            StoreError::from_object_store("x", &error),
            StoreError::Full { .. }
        ));
    }
}
