//! The Hugging Face hub, or a mirror of it: names of files and their addresses.

use std::{env, fmt, path::PathBuf};

use reqwest::Url;

use super::DownloadError;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// What our own files beside a model end with: a file of that name could replace them.
const RESERVED: [&str; 4] = [".part", ".lock", ".gguf.json", ".safetensors.json"];

/// Longest name of a segment, what common file systems take.
const MAX_SEGMENT_BYTES: usize = 200;

/// A file of a hub: `OWNER/REPO/FILE`, where FILE may lie in folders.
///
/// Invariant: no segment is empty, `.` or `..` or holds a separator, so that it cannot leave its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    segments: Vec<String>,
}

/// A hub and who asks.
#[derive(Clone)]
pub struct Hub {
    endpoint: Url,
    token: Option<String>,
}

impl HubFile {
    /// Reads `OWNER/REPO/FILE`; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let segments: Vec<_> = text.split('/').map(str::to_owned).collect();
        if segments.len() < 3 {
            return Err("owner, repository and file are needed");
        }
        if segments.len() > 16 {
            return Err("it lies too deep");
        }
        for (index, segment) in segments.iter().enumerate() {
            if segment.is_empty() || segment == "." || segment == ".." {
                return Err("empty segments, . and .. are not allowed");
            }
            if segment.len() > MAX_SEGMENT_BYTES {
                return Err("a name is too long");
            }
            if segment.contains(['\\', ':', '\0']) || segment.chars().any(char::is_control) {
                return Err("backslashes, colons and control characters are not allowed");
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if index < 2 && (segment.starts_with('.') || !segment.chars().all(plain)) {
                return Err("owner and repository have only letters, digits, - _ and .");
            }
        }
        let file = segments.last().map_or("", String::as_str);
        if RESERVED.iter().any(|end| file.ends_with(end)) || file.starts_with('.') {
            return Err("this file name is reserved");
        }
        Ok(Self { segments })
    }

    /// Its place below the folder of models.
    pub(super) fn relative(&self) -> PathBuf {
        self.segments.iter().collect()
    }

    /// Its name without folders and ending.
    pub(super) fn stem(&self) -> &str {
        let file = self.segments.last().map_or("", String::as_str);
        file.rsplit_once('.').map_or(file, |(stem, _)| stem)
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.segments.join("/"))
    }
}

impl Hub {
    /// The hub of `HF_ENDPOINT`, else the public one; who asks is `HF_TOKEN`.
    ///
    /// # Errors
    /// [`DownloadError::Endpoint`] when `HF_ENDPOINT` is no address of HTTP.
    pub fn from_env() -> Result<Self, DownloadError> {
        let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self::new(set("HF_ENDPOINT").as_deref().unwrap_or(PUBLIC), set("HF_TOKEN"))
    }

    /// The hub at `endpoint`.
    ///
    /// # Errors
    /// As [`Hub::from_env`].
    pub fn new(endpoint: &str, token: Option<String>) -> Result<Self, DownloadError> {
        let wrong = || DownloadError::Endpoint { endpoint: endpoint.to_owned() };
        let url = Url::parse(endpoint).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(wrong());
        }
        Ok(Self { endpoint: url, token })
    }

    /// Where the newest version of a file is.
    pub(super) fn address(&self, file: &HubFile) -> Url {
        let mut url = self.endpoint.clone();
        let (repository, path) = file.segments.split_at(2);
        // Checked in `new`: such an address has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(repository).extend(["resolve", "main"]).extend(path);
        }
        url
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_built_from_its_segments() {
        let file = HubFile::parse("owner/repo/sub folder/m.Q4_0.gguf").unwrap();
        let hub = Hub::new("https://mirror.example/hub/", None).unwrap();
        assert_eq!(
            hub.address(&file).as_str(),
            "https://mirror.example/hub/owner/repo/resolve/main/sub%20folder/m.Q4_0.gguf"
        );
        assert_eq!((file.stem(), file.relative()), ("m.Q4_0", PathBuf::from("owner/repo/sub folder/m.Q4_0.gguf")));
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in [
            "a/b",
            "a/b/",
            "/a/b/c",
            "a//b/c",
            "../b/c.gguf",
            "a/../c.gguf",
            "a/b/../../x",
            "a/b/..",
            "a/b/c\\..\\d",
            "a/b/C:x",
            "a/b/c\0",
            "a/.git/config",
            "a/b/m.gguf.json",
            "a/b/m.part",
            "a/b/.hidden",
            "a b/c/d",
            "a/b/\n",
        ] {
            assert!(HubFile::parse(bad).is_err(), "{bad:?}");
        }
        let deep = format!("a/b/{}", "x/".repeat(20));
        assert!(HubFile::parse(&deep).is_err());
    }

    #[test]
    fn an_endpoint_is_an_address_of_http() {
        for bad in ["", "huggingface.co", "ftp://x", "file:///etc"] {
            assert!(Hub::new(bad, None).is_err(), "{bad:?}");
        }
        let hub = Hub::new(PUBLIC, Some("geheim".into())).unwrap();
        assert!(!format!("{hub:?}").contains("geheim"));
    }
}
