//! `model-runner`: a whole model on one device, told what to do by lines of JSON.
//!
//! `model-runner CONFIG` with `{"model": PATH, "device": "cpu" | "cuda:N", "precision": "packed" | "exact", "quantize": "none" | "q8_0" |
//! "q4_0", "threads", "arena_tokens"}` loads the model and prints what it is; then each line of standard input is a command and each line of
//! standard output its answer:
//! - `{"op": "logits", "prompt": [ids], "forced": [ids], "chunk", "out": PATH}` writes the logits after the prompt and after
//!   each forced token, `[1 + forced, vocabulary]` f32 little-endian;
//! - `{"op": "prefill", "tokens", "chunk"}` and `{"op": "decode", "batch", "prompt", "tokens"}` answer seconds.
//!
//! `tests/gpu/run` compares what it says with `transformers`.

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufWriter, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use far_mesh_core::{
    hop::{Done, Head, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, SessionId},
    model::{ModelConfig, Precision, Quantize, Source},
    shard::{self, Batching, DeviceChoice, Info, PrefixSharing, Shard},
};
use serde_json::{Value, json};
use tokio::sync::Barrier;

type Failed = Box<dyn Error + Send + Sync>;

/// Chunks of a prompt on their way at once.
const CHUNKS_AHEAD: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let argument = std::env::args().nth(1).ok_or("usage: model-runner CONFIG (a JSON object)")?;
    let config: Value = serde_json::from_str(&argument)?;
    let started = Instant::now();
    let shard = tokio::task::spawn_blocking(move || load(&config)).await??;
    let info = shard.info();
    say(&json!({
        "event": "ready", "seconds": started.elapsed().as_secs_f64(), "layers": info.layers, "hidden": info.hidden,
        "vocabulary": info.vocab, "packed_bytes": info.packed_bytes, "arena_bytes": info.arena_bytes,
        "kernel_class": info.kernel_class, "dtype": format!("{:?}", info.dtype),
    }))?;
    let runner = Runner {
        hop: shard.hop().ok_or("no layers")?,
        head: shard.head().ok_or("no head")?,
        info: info.clone(),
        prompts: Arc::default(),
    };
    for line in io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = match command["op"].as_str() {
            Some("logits") => runner.logits(&command).await?,
            Some("prefill") => runner.prefill(&command).await?,
            Some("decode") => runner.decode(&command).await?,
            other => return Err(format!("no command {other:?}").into()),
        };
        say(&answer)?;
    }
    shard.shutdown().await;
    Ok(())
}

/// Loads the whole model as the configuration says.
fn load(config: &Value) -> Result<Shard, Failed> {
    let text = |name: &str| config[name].as_str().ok_or_else(|| format!("{name} is missing"));
    let path = PathBuf::from(text("model")?);
    let device = match text("device")? {
        "cpu" => DeviceChoice::Cpu,
        gpu => DeviceChoice::Cuda(gpu.strip_prefix("cuda:").ok_or("device: cpu or cuda:N")?.parse()?),
    };
    let precision = match (text("precision")?, text("quantize")?) {
        ("packed", "none") => Precision::Packed,
        ("packed", "q8_0") => Precision::Quantized(Quantize::Q8_0),
        ("packed", "q4_0") => Precision::Quantized(Quantize::Q4_0),
        ("exact", "none") => Precision::Exact,
        other => return Err(format!("no such precision: {other:?}").into()),
    };
    let layers = ModelConfig::read(&Source::open(&path)?)?.all_layers();
    // Prompts are not shared: each is computed, as it would be the first time.
    let batching = Batching { step_tokens: 2048, prefix_sharing: PrefixSharing::Off, ..Batching::default() };
    let config = shard::Config {
        model: path,
        // Nobody else is there to agree with.
        hash: ModelHash([0; 32]),
        span: Some(layers),
        head: true,
        device,
        precision,
        threads: number(config, "threads")?,
        arena_tokens: number(config, "arena_tokens")?,
        batching,
        isa: None,
    };
    Ok(Shard::load(config, &mut |_, _| {})?)
}

fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

fn number(command: &Value, name: &str) -> Result<usize, Failed> {
    let value = command[name].as_u64().ok_or_else(|| format!("{name} is missing in {command}"))?;
    Ok(usize::try_from(value)?)
}

fn ids(command: &Value, name: &str) -> Result<Vec<u32>, Failed> {
    let list = command[name].as_array().ok_or_else(|| format!("{name} is missing"))?;
    list.iter().map(|id| Ok(u32::try_from(id.as_u64().ok_or("not a token id")?)?)).collect()
}

#[derive(Clone)]
struct Runner {
    hop: Arc<dyn Hop>,
    head: Arc<dyn Head>,
    info: Info,
    /// Prompts so far: no two of those made here are alike.
    prompts: Arc<AtomicU32>,
}

impl Runner {
    async fn logits(&self, command: &Value) -> Result<Value, Failed> {
        let (prompt, forced) = (ids(command, "prompt")?, ids(command, "forced")?);
        let path = PathBuf::from(command["out"].as_str().ok_or("out is missing")?);
        let mut out = BufWriter::new(File::create(path)?);
        let mut session = self.open(prompt.len() + forced.len()).await?;
        let mut done = self.prompt(session.as_mut(), &prompt, number(command, "chunk")?).await?;
        let mut next = forced.iter();
        loop {
            let row = self.head.logits(done.output.ok_or(HopError::Closed)?).await?;
            for value in row {
                out.write_all(&value.to_le_bytes())?;
            }
            let Some(id) = next.next() else { break };
            let at = (forced.len() - next.len() - 1) as u64;
            let step = Step {
                seq: done.seq + 1,
                position: (prompt.len() as u64 + at) as u32,
                input: Input::Tokens(vec![*id]),
                output: Rows::Last,
            };
            session.submit(step).await?;
            done = session.next().await?;
        }
        session.close().await?;
        out.flush()?;
        Ok(json!({ "rows": 1 + forced.len() }))
    }

    async fn prefill(&self, command: &Value) -> Result<Value, Failed> {
        let tokens = number(command, "tokens")?;
        let prompt = self.made_up(tokens);
        let mut session = self.open(tokens).await?;
        let started = Instant::now();
        let done = self.prompt(session.as_mut(), &prompt, number(command, "chunk")?).await?;
        self.likeliest(done).await?;
        let seconds = started.elapsed().as_secs_f64();
        session.close().await?;
        Ok(json!({ "seconds": seconds }))
    }

    /// Sessions that decode at once, timed from when the last has its prompt.
    async fn decode(&self, command: &Value) -> Result<Value, Failed> {
        let (batch, prompt, tokens) =
            (number(command, "batch")?, number(command, "prompt")?, number(command, "tokens")?);
        let ready = Arc::new(Barrier::new(batch + 1));
        let sessions: Vec<_> = (0..batch)
            .map(|_| {
                let (runner, ready) = (self.clone(), Arc::clone(&ready));
                tokio::spawn(async move { runner.decode_one(prompt, tokens, &ready).await })
            })
            .collect();
        ready.wait().await;
        let started = Instant::now();
        for session in sessions {
            session.await??;
        }
        Ok(json!({ "seconds": started.elapsed().as_secs_f64() }))
    }

    async fn decode_one(&self, prompt: usize, tokens: usize, ready: &Barrier) -> Result<(), Failed> {
        let begun = async {
            let mut session = self.open(prompt + tokens).await?;
            let done = self.prompt(session.as_mut(), &self.made_up(prompt), prompt.clamp(1, 512)).await?;
            Ok::<_, Failed>((session, done))
        };
        let begun = begun.await;
        ready.wait().await;
        let (mut session, mut done) = begun?;
        for at in 0..tokens {
            let seq = done.seq + 1;
            let next = self.likeliest(done).await?;
            let position = (prompt + at) as u32;
            session.submit(Step { seq, position, input: Input::Tokens(vec![next]), output: Rows::Last }).await?;
            done = session.next().await?;
        }
        self.likeliest(done).await?;
        session.close().await?;
        Ok(())
    }

    fn made_up(&self, tokens: usize) -> Vec<u32> {
        let salt = self.prompts.fetch_add(1, Ordering::Relaxed).wrapping_mul(31).wrapping_add(13);
        let id = |at: u32| at.wrapping_mul(7919).wrapping_add(salt) % self.info.vocab as u32;
        (0..tokens as u32).map(id).collect()
    }

    async fn open(&self, context: usize) -> Result<Box<dyn HopSession>, HopError> {
        let request = OpenSession {
            session: SessionId::random(),
            model: self.info.hash,
            span: self.hop.span(),
            dtype: self.info.dtype,
            context_tokens: context as u32,
        };
        self.hop.open(request).await
    }

    /// Runs a prompt in chunks; what comes of its last row.
    async fn prompt(&self, session: &mut dyn HopSession, ids: &[u32], chunk: usize) -> Result<Done, Failed> {
        let chunks: Vec<&[u32]> = ids.chunks(chunk.max(1)).collect();
        let (mut position, mut last) = (0, None);
        for (at, chunk) in chunks.iter().enumerate() {
            let output = if at + 1 == chunks.len() { Rows::Last } else { Rows::None };
            session.submit(Step { seq: at as u64, position, input: Input::Tokens(chunk.to_vec()), output }).await?;
            position += chunk.len() as u32;
            if at >= CHUNKS_AHEAD {
                session.next().await?;
            }
        }
        for _ in 0..chunks.len().min(CHUNKS_AHEAD) {
            last = Some(session.next().await?);
        }
        Ok(last.ok_or("an empty prompt")?)
    }

    async fn likeliest(&self, done: Done) -> Result<u32, HopError> {
        let logits = self.head.logits(done.output.ok_or(HopError::Closed)?).await?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(best.map_or(0, |(id, _)| id as u32))
    }
}
