//! What a server's answer says about a file.

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap},
};

use crate::config::Sha256;

/// A file on its way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Response,
    /// Where the part that comes begins; `None` where the whole file comes.
    pub(super) start: Option<u64>,
    /// Size of the whole file.
    pub(super) total: Option<u64>,
    /// A strong validator of this version, as `If-Range` needs.
    pub(super) etag: Option<String>,
    /// The hash of the file: hubs name it in `X-Linked-Etag`, or use it as `ETag`.
    pub(super) sha256: Option<Sha256>,
    /// The hub's commit.
    pub(super) revision: Option<String>,
}

impl Answer {
    /// Reads a 200 or 206; `told` are the headers of the redirects before it. `None` when a 206 does not say what part
    /// it is, or its parts contradict each other.
    pub(super) fn read(body: Response, told: &HeaderMap) -> Option<Self> {
        let headers = body.headers();
        let text = |name: &str| told.get(name).or_else(|| headers.get(name)).and_then(|value| value.to_str().ok());
        let number = |text: &str| text.parse::<u64>().ok();
        let (start, told_total) = if body.status() == StatusCode::PARTIAL_CONTENT {
            let (start, total) = content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)?;
            (Some(start), total)
        } else {
            (None, headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(number))
        };
        let linked = text("x-linked-size").and_then(number);
        if let (Some(one), Some(other)) = (told_total, linked)
            && one != other
        {
            return None;
        }
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok());
        Some(Self {
            start,
            total: told_total.or(linked),
            etag: etag.filter(|etag| etag.starts_with('"')).map(str::to_owned),
            sha256: text("x-linked-etag").or(etag).and_then(|etag| etag.trim_matches('"').parse().ok()),
            revision: text("x-repo-commit").filter(|commit| commit.len() <= 64).map(str::to_owned),
            body,
        })
    }
}

/// The type of a page for people, if that is what came.
pub(super) fn web_page(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let html = content_type.trim_start().to_ascii_lowercase().starts_with("text/html");
    html.then(|| content_type.to_owned())
}

/// First byte and size of the whole of `bytes FIRST-LAST/SIZE`; the size may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size = if size == "*" { None } else { Some(size.parse::<u64>().ok()?) };
    (first <= last && size.is_none_or(|size| last < size)).then_some((first, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", "items 0-1/2", "bytes a-b/c"] {
            assert_eq!(content_range(bad), None, "{bad:?}");
        }
    }
}
