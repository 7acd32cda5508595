//! When a call is sent again: only where nothing can have been run, so that no token is paid twice.

use std::time::Duration;

use crate::{Error, Options};

/// First pause after a connection that failed; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before attempt `next` (the second is 2); `None` gives up.
pub(crate) fn pause(error: &Error, next: u32, options: &Options) -> Option<Duration> {
    if next > options.attempts {
        return None;
    }
    match error {
        Error::Connect { .. } => Some(FIRST_PAUSE.saturating_mul(1 << (next - 2).min(8)).min(options.max_pause)),
        Error::Refused { status: 429 | 503, retry_after: Some(after), .. } if *after <= options.max_pause => {
            Some(*after)
        }
        _ => None,
    }
}

/// Reads `Retry-After` in its form of whole seconds, the only one a coordinator sends.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ErrorDetail;

    fn refused(status: u16, after: Option<u64>) -> Error {
        let detail = ErrorDetail { message: String::new(), kind: String::new(), code: None, param: None };
        Error::Refused { status, detail, retry_after: after.map(Duration::from_secs) }
    }

    #[test]
    fn only_answers_that_ask_for_it_are_retried_and_not_for_ever() {
        let options = Options::default();
        assert_eq!(pause(&refused(429, Some(1)), 2, &options), Some(Duration::from_secs(1)));
        assert_eq!(pause(&refused(503, Some(0)), options.attempts, &options), Some(Duration::ZERO));
        assert_eq!(pause(&refused(503, Some(0)), options.attempts + 1, &options), None);
        assert_eq!(pause(&refused(429, None), 2, &options), None);
        assert_eq!(pause(&refused(429, Some(3600)), 2, &options), None, "longer than a caller waits");
        assert_eq!(pause(&refused(500, Some(1)), 2, &options), None);
        assert_eq!(pause(&Error::Truncated, 2, &options), None);
    }
}
