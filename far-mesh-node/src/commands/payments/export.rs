//! `far-mesh payments export`.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
};

use far_ledger::{
    Store, UnixMillis,
    store::{Earnings, ExportError},
};
use tokio::{fs::File, io::AsyncWrite};

use crate::{
    cli::ExportArgs,
    commands::{CommandError, books, until_interrupted},
    config::Config,
};

use super::{PaymentsError, text::count};

/// Standard output of a command that does nothing meanwhile: a slow reader may hold it up.
struct Stdout;

impl AsyncWrite for Stdout {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(io::stdout().lock().write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(io::stdout().lock().flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

pub(super) async fn run(args: ExportArgs, config: &Config) -> Result<(), CommandError> {
    let end = UnixMillis::new(i64::MAX).unwrap_or_default();
    let earnings =
        Earnings { from: args.from.unwrap_or_default(), to: args.to.unwrap_or(end), node_id: args.node.clone() };
    let work = async {
        let ledger = books::open(config).await?;
        let written = match &args.output {
            Some(path) => {
                let failed = |source| CommandError::Write { path: path.clone(), source };
                let mut file = File::create_new(path).await.map_err(failed)?;
                let written = ledger.export_earnings(&earnings, &mut file).await;
                file.sync_all().await.map_err(failed)?;
                written
            }
            None => ledger.export_earnings(&earnings, &mut Stdout).await,
        };
        ledger.close().await;
        written.map_err(|error| match error {
            ExportError::Write(source) if args.output.is_none() => CommandError::Output(source),
            error => PaymentsError::from(error).into(),
        })
    };
    let rows = until_interrupted("what was written is whole lines; run this again", Box::pin(work)).await?;
    if let Some(path) = &args.output {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        tracing::info!("{} in {}", count(rows, "row", "rows"), path.display());
    }
    Ok(())
}
