//! Discovery and providers that share the layers of a model.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use far_mesh_core::id::{Span, SpanError};

use super::{Part, PartError};

/// How long a part may take to serve: a provider reads and packs its weights first.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a part may take to end: it finishes live steps and withdraws its advert.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a local mesh consists of.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The program `far-mesh`.
    pub program: PathBuf,
    /// The model file.
    pub model: PathBuf,
    /// Decoder layers of the model.
    pub layers: u32,
    /// Number of providers; each gets an equal share of the layers.
    pub providers: u32,
    /// Folder for keys and databases of the parts.
    pub dir: PathBuf,
    /// File with the mesh's pre-shared key.
    pub psk: PathBuf,
    /// Further flags of every provider.
    pub provider_flags: Vec<OsString>,
}

/// The parts of a running mesh.
#[derive(Debug)]
pub struct LocalMesh {
    config: LocalConfig,
    discovery: Part,
    providers: Vec<Part>,
}

/// Why a local mesh cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// More providers than layers, or none.
    #[error("{providers} providers cannot share {layers} layers: choose 1 to {layers}")]
    Providers {
        /// Asked for.
        providers: u32,
        /// Of the model.
        layers: u32,
    },
    /// A part did not come up.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The discovery node named no address.
    #[error("the discovery node listens nowhere")]
    NoAddress,
}

impl LocalMesh {
    /// Starts discovery, then all providers at once, each on ports of the system's choice.
    ///
    /// # Errors
    /// [`LocalError`]; parts that came up are ended again.
    pub async fn start(config: LocalConfig) -> Result<Self, LocalError> {
        let spans = shares(config.layers, config.providers)?;
        let discovery = Part::start(
            &config.program,
            "discovery",
            part_args(&config, &["discovery"], "discovery", &[]),
            START_PATIENCE,
        )
        .await?;
        let bootstrap = discovery.ready.listen.first().ok_or(LocalError::NoAddress)?.clone();
        let starts = spans.into_iter().enumerate().map(|(number, span)| {
            let name = format!("provider {}", number + 1);
            let folder = format!("provider-{}", number + 1);
            let mut args = part_args(&config, &["provider", "run"], &folder, &["--bootstrap", &bootstrap]);
            args.extend(["--layers".into(), span.to_string().into(), "--model".into(), config.model.clone().into()]);
            args.extend(["--wallet".into(), wallet(number).into()]);
            args.extend(config.provider_flags.iter().cloned());
            let program = &config.program;
            async move { Part::start(program, &name, args, START_PATIENCE).await }
        });
        let providers = futures::future::try_join_all(starts).await?;
        Ok(Self { config, discovery, providers })
    }

    /// Address every other part is told to join at.
    pub fn bootstrap(&self) -> &str {
        self.discovery.ready.listen.first().map_or("", String::as_str)
    }

    /// The providers, in the order of their layers.
    pub fn providers(&self) -> &[Part] {
        &self.providers
    }

    /// The same, to be killed or stopped one by one.
    pub fn providers_mut(&mut self) -> &mut Vec<Part> {
        &mut self.providers
    }

    /// Adds a coordinator that serves HTTP at `http`.
    ///
    /// # Errors
    /// [`LocalError::Part`] when it does not come up.
    pub async fn coordinator(&self, http: &str, flags: Vec<OsString>) -> Result<Part, LocalError> {
        let mut args = part_args(
            &self.config,
            &["coordinator"],
            "coordinator",
            &["--bootstrap", self.bootstrap(), "--http", http],
        );
        args.extend(["--model".into(), self.config.model.clone().into()]);
        args.extend(flags);
        Ok(Part::start(&self.config.program, "coordinator", args, START_PATIENCE).await?)
    }

    /// Ends every part, the discovery node last.
    pub async fn stop(self) {
        futures::future::join_all(self.providers.into_iter().map(|part| part.stop(STOP_PATIENCE))).await;
        self.discovery.stop(STOP_PATIENCE).await;
    }
}

/// Ends a part the way [`LocalMesh::stop`] ends its own.
pub(crate) async fn stop(part: Part) {
    part.stop(STOP_PATIENCE).await;
}

/// Equal shares of `layers`, the earlier ones one larger where it does not divide.
fn shares(layers: u32, providers: u32) -> Result<Vec<Span>, LocalError> {
    let wrong = |_: SpanError| LocalError::Providers { providers, layers };
    if providers == 0 || providers > layers {
        return Err(LocalError::Providers { providers, layers });
    }
    let bound = |number: u32| number * (layers / providers) + number.min(layers % providers);
    (0..providers).map(|number| Span::new(bound(number), bound(number + 1)).map_err(wrong)).collect()
}

fn part_args(config: &LocalConfig, command: &[&str], folder: &str, rest: &[&str]) -> Vec<OsString> {
    let folder: &Path = &config.dir.join(folder);
    let mut args: Vec<OsString> = command.iter().map(OsString::from).collect();
    args.extend(["--data-dir".into(), folder.into(), "--psk".into(), config.psk.clone().into()]);
    args.extend(["--listen".into(), "/ip4/127.0.0.1/tcp/0".into()]);
    if !rest.contains(&"--http") {
        args.extend(["--http".into(), "127.0.0.1:0".into()]);
    }
    args.extend(rest.iter().map(OsString::from));
    args
}

/// A wallet that tells the providers of a local mesh apart; nobody holds its key.
fn wallet(number: usize) -> String {
    format!("0x{:040x}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_layers_and_differ_by_one_at_most() {
        let text =
            |layers, providers| shares(layers, providers).unwrap().iter().map(Span::to_string).collect::<Vec<_>>();
        assert_eq!(text(30, 3), ["0..10", "10..20", "20..30"]);
        assert_eq!(text(30, 4), ["0..8", "8..16", "16..23", "23..30"]);
        assert_eq!(text(2, 2), ["0..1", "1..2"]);
        assert!(shares(30, 0).is_err() && shares(30, 31).is_err());
    }
}
