//! ctrl-C and SIGTERM.

use std::io;

use super::CommandError;

/// Runs `work` until it ends or the process is asked to; then drops it, which is how everything below is cancelled.
///
/// # Errors
/// [`CommandError::Interrupted`] with `remedy`; [`CommandError::Runtime`] when signals cannot be heard.
pub async fn until_interrupted<T>(
    remedy: &'static str,
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    tokio::select! {
        done = work => done,
        heard = signalled() => {
            heard.map_err(CommandError::Runtime)?;
            Err(CommandError::Interrupted { remedy })
        }
    }
}

#[cfg(unix)]
async fn signalled() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signalled() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Runs the end of a command, unless it is asked to end once more meanwhile: then it ends at once.
///
/// # Errors
/// [`CommandError::Runtime`] when signals cannot be heard.
pub async fn finish(end: impl Future<Output = ()>) -> Result<(), CommandError> {
    tokio::select! {
        () = end => Ok(()),
        again = stopped(false) => again,
    }
}

/// Waits for ctrl-C or SIGTERM; with `stdin_too`, also for standard input to close.
///
/// # Errors
/// [`CommandError::Runtime`] when signals cannot be heard.
pub async fn stopped(stdin_too: bool) -> Result<(), CommandError> {
    let closed = async {
        if !stdin_too {
            return std::future::pending().await;
        }
        // A thread reads to the end; the runtime does not wait for it at exit.
        let _ = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink())).await;
    };
    tokio::select! {
        heard = signalled() => heard.map_err(CommandError::Runtime),
        () = closed => Ok(()),
    }
}
