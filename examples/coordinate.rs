//! A coordinator embedded in a program: `coordinate MODEL.gguf PROMPT BOOTSTRAP` prints the answer of a mesh.

use std::{env, error::Error, io::Write, time::Duration};

use far_mesh_core::{
    coordinator::{Config, Coordinator, OtherClass, Prompt},
    model::{Precision, model_hash},
    peer::{self, Keypair, Node},
    session::{Event, Request, Sampling},
    token::Message,
};
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [model, prompt, bootstrap] =
        [1, 2, 3].map(|at| env::args().nth(at).ok_or("usage: coordinate MODEL PROMPT BOOTSTRAP"));
    let mut mesh = peer::Config::new(Keypair::generate_ed25519());
    mesh.bootstrap = vec![bootstrap?.parse()?];
    let node = Node::spawn(mesh).await?;
    node.bootstrapped(Duration::from_secs(10)).await?;
    let path = std::path::PathBuf::from(model?);
    let hash = model_hash(&path, &env::temp_dir(), &mut |_, _| ())?;
    let (name, precision, other_class) = ("example".into(), Precision::Packed, OtherClass::Resume);
    let config = Config { name, path, hash, precision, threads: 2, other_class, region: None };
    let coordinator = Coordinator::start(node.clone(), config, |_, _| ()).await?;
    let prompt = coordinator.encode(&Prompt::Chat(vec![Message::user(prompt?)]))?;
    let request = Request { prompt, max_tokens: 64, sampling: Sampling::greedy(), stop: vec![], logprobs: None };
    let mut events = coordinator.generate(request).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Token(token) => print!("{}", token.text),
            Event::Done(finish) => println!("{}\n{:?}", finish.tail, finish.usage),
        }
        std::io::stdout().flush()?;
    }
    coordinator.shutdown().await;
    node.shutdown().await;
    Ok(())
}
