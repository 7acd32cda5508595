//! ctrl-C and SIGTERM.

use std::io;

use super::CommandError;

/// Hears ctrl-C and SIGTERM from the moment it is made: one that comes before [`Stop::asked`] is kept for it. So make it
/// before telling anyone that the process serves.
#[derive(Debug)]
pub struct Stop {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Stop {
    /// Begins to listen; from now on, ctrl-C does not end the process by itself.
    ///
    /// # Errors
    /// [`CommandError::Runtime`] when signals cannot be heard.
    #[cfg(unix)]
    pub fn listen() -> Result<Self, CommandError> {
        use tokio::signal::unix::{SignalKind, signal};
        let hear = |kind| signal(kind).map_err(CommandError::Runtime);
        Ok(Self { interrupt: hear(SignalKind::interrupt())?, terminate: hear(SignalKind::terminate())? })
    }

    /// Begins to listen; from now on, ctrl-C does not end the process by itself.
    ///
    /// # Errors
    /// [`CommandError::Runtime`] when ctrl-C cannot be heard.
    #[cfg(windows)]
    pub fn listen() -> Result<Self, CommandError> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c().map_err(CommandError::Runtime)? })
    }

    /// Waits for ctrl-C or SIGTERM; with `stdin_too`, also for standard input to close. Cancel-safe.
    pub async fn asked(&mut self, stdin_too: bool) {
        let closed = async {
            if !stdin_too {
                return std::future::pending().await;
            }
            // A thread reads to the end; the runtime does not wait for it at exit.
            let _ = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink())).await;
        };
        tokio::select! {
            () = self.signalled() => {}
            () = closed => {}
        }
    }

    /// Runs the end of a command, unless it is asked to end once more meanwhile: then it ends at once.
    pub async fn finish(mut self, end: impl Future<Output = ()>) {
        tokio::select! {
            () = end => {}
            () = self.asked(false) => {}
        }
    }

    #[cfg(unix)]
    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(windows)]
    async fn signalled(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Runs `work` until it ends or the process is asked to; then drops it, which is how everything below is cancelled.
///
/// # Errors
/// [`CommandError::Interrupted`] with `remedy`; [`CommandError::Runtime`] when signals cannot be heard.
pub async fn until_interrupted<T>(
    remedy: &'static str,
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        done = work => done,
        () = stop.asked(false) => Err(CommandError::Interrupted { remedy }),
    }
}
