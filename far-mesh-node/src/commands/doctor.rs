//! `far-mesh doctor`: what this machine can serve with.

use std::{fmt::Write, fs, path::Path, time::Duration};

use far_mesh_core::kernel::{Isa, Pool, probe_cuda, read_bandwidth};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::{CommandError, device, join::make_folder, memory::Memory, print, print_json, until_interrupted};
use crate::{
    cli::DoctorArgs,
    config::{Config, Device},
    models,
};

/// How long memory is read to measure its bandwidth.
const BANDWIDTH_TIME: Duration = Duration::from_millis(300);

/// What was found out.
#[derive(Debug, Serialize)]
struct Report {
    findings: Vec<Finding>,
    /// What a shard would compute on, `cpu` or `cuda:N`; absent where it cannot compute as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    found: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Missing, but nothing that was asked for needs it.
    Absent,
    /// In the way of what was asked for.
    Fault,
}

/// Looks at everything and says what it found.
///
/// # Errors
/// [`CommandError::Unfit`] when something is in the way of what was asked for.
pub async fn run(args: DoctorArgs, config: Config) -> Result<(), CommandError> {
    let report = until_interrupted("nothing was changed", examine(&config)).await?;
    if args.json {
        print_json(&report)?
    } else {
        print(&report.text())?
    }
    match report.findings.iter().any(|finding| finding.state == State::Fault) {
        true => Err(CommandError::Unfit),
        false => Ok(()),
    }
}

async fn examine(config: &Config) -> Result<Report, CommandError> {
    let mut report = Report { findings: Vec::new(), device: None };
    let threads = config.threads.get().get();
    report.add("processor", State::Ok, format!("{}, {threads} threads, {}", processor(), kernels(Isa::best())));
    let bandwidth = tokio::task::spawn_blocking(move || read_bandwidth(&Pool::new(threads), BANDWIDTH_TIME));
    let bandwidth = bandwidth.await.map_err(|_| CommandError::Aborted)? / 1e9;
    let memory = Memory::read().map_or("size unknown".to_owned(), |memory| {
        format!("{} free of {}", BinaryBytes(memory.available_bytes), BinaryBytes(memory.total_bytes))
    });
    report.add("memory", State::Ok, format!("{memory}, reads {bandwidth:.0} GB/s"));
    match writable(&config.data_dir) {
        Ok(()) => report.add("data folder", State::Ok, config.data_dir.display().to_string()),
        Err(error) => report.add("data folder", State::Fault, chain(&error)),
    }
    report.models(config);
    report.gpus(config.device).await?;
    Ok(report)
}

impl Report {
    fn add(&mut self, what: impl Into<String>, state: State, found: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), state, found: found.into() });
    }

    fn models(&mut self, config: &Config) {
        match models::list(&config.data_dir) {
            Ok(listed) => {
                let ready: Vec<_> = listed
                    .iter()
                    .filter(|model| matches!(model.state, models::State::Ready))
                    .map(|model| format!("{} ({})", model.name, BinaryBytes(model.bytes)))
                    .collect();
                match ready.is_empty() {
                    true => self.add(
                        "models",
                        State::Absent,
                        format!("none here yet; far-mesh models pull {} fetches one", config.model),
                    ),
                    false => self.add("models", State::Ok, ready.join(", ")),
                }
            }
            Err(error) => self.add("models", State::Fault, chain(&error)),
        }
    }

    /// Driver, compiler, headers and every GPU; then which device that leaves.
    async fn gpus(&mut self, asked: Device) -> Result<(), CommandError> {
        let probe = tokio::task::spawn_blocking(probe_cuda).await.map_err(|_| CommandError::Aborted)?;
        // What is missing matters where a GPU was asked for.
        let absent = if matches!(asked, Device::Cuda(_)) { State::Fault } else { State::Absent };
        if let Some(version) = probe.driver {
            self.add("NVIDIA driver", State::Ok, format!("serves CUDA {version}"));
        }
        if let Some(version) = probe.nvrtc {
            self.add("NVRTC", State::Ok, version.to_string());
        }
        if let Some(toolkit) = &probe.toolkit {
            self.add("CUDA headers", State::Ok, toolkit.join("include").display().to_string());
        }
        let mut working = Vec::new();
        for gpu in &probe.devices {
            let free = gpu.free_bytes.map_or_else(|| "unknown".to_owned(), |bytes| BinaryBytes(bytes).to_string());
            let (major, minor) = gpu.compute;
            let found = format!(
                "{}, compute capability {major}.{minor}, {free} free of {}",
                gpu.name,
                BinaryBytes(gpu.total_bytes)
            );
            let what = format!("cuda:{}", gpu.index);
            match probe.missing {
                Some(_) => self.add(what, State::Absent, found),
                None => match device::trial(gpu.index).await? {
                    Ok(_) => {
                        working.push(gpu.index);
                        self.add(what, State::Ok, format!("{found}; a trial kernel ran"));
                    }
                    Err(missing) => {
                        let state = if asked == Device::Cuda(gpu.index) { State::Fault } else { State::Absent };
                        self.add(what, state, format!("{found}; {missing}"));
                    }
                },
            }
        }
        if let Some(missing) = &probe.missing {
            self.add("CUDA", absent, missing.to_string());
        }
        self.device = match asked {
            Device::Cpu => Some("cpu".to_owned()),
            Device::Auto => Some(if working.contains(&0) { "cuda:0".to_owned() } else { "cpu".to_owned() }),
            Device::Cuda(index) if working.contains(&index) => Some(format!("cuda:{index}")),
            Device::Cuda(index) => {
                if probe.missing.is_none() && probe.devices.len() <= index {
                    self.add(asked.to_string(), State::Fault, format!("there are {} GPUs", probe.devices.len()));
                }
                None
            }
        };
        Ok(())
    }

    fn text(&self) -> String {
        let wide = self.findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Finding { what, state, found } in &self.findings {
            let mark = match state {
                State::Ok => "ok",
                State::Absent => "-",
                State::Fault => "FAULT",
            };
            let _ = writeln!(text, "{mark:5}  {what:wide$}  {found}");
        }
        match &self.device {
            Some(device) => text.push_str(&format!("\nlayers are computed on {device}\n")),
            None => text.push_str("\nlayers cannot be computed as asked\n"),
        }
        text
    }
}

/// The processor's own name; the architecture where the system does not say.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn kernels(isa: Isa) -> String {
    match isa {
        Isa::Scalar => "portable kernels: many times slower than with AVX2".to_owned(),
        isa => format!("{isa} kernels"),
    }
}

/// Makes the folder where it is missing, and a file in it for a moment.
fn writable(folder: &Path) -> Result<(), CommandError> {
    make_folder(folder)?;
    let file = tempfile::tempfile_in(folder);
    file.map(drop).map_err(|source| CommandError::Write { path: folder.to_owned(), source })
}

/// An error and what it came from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
