//! A provider embedded in a program: `provide MODEL.gguf A..B [BOOTSTRAP]` serves these layers until ctrl-C.

use std::{env, error::Error, time::Duration};

use far_mesh_core::{
    model::{Precision, model_hash},
    peer::{self, Keypair, Node},
    provider::{Provider, Terms},
    shard::{Config, Shard},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [model, layers] = [env::args().nth(1), env::args().nth(2)].map(|word| word.ok_or("usage: provide MODEL A..B"));
    let (model, span) = (model?, Some(layers?.parse()?));
    let hash = model_hash(model.as_ref(), &env::temp_dir(), &mut |_, _| ())?;
    let (precision, threads, arena_tokens) = (Precision::Packed, 2, 16_384);
    let config = Config { model: model.into(), hash, span, head: false, precision, threads, arena_tokens, isa: None };
    let shard = tokio::task::spawn_blocking(move || Shard::load(config, &mut |_, _| ())).await??;

    let mut mesh = peer::Config::new(Keypair::generate_ed25519());
    mesh.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    mesh.bootstrap = env::args().skip(3).map(|addr| addr.parse()).collect::<Result<_, _>>()?;
    let node = Node::spawn(mesh).await?;
    node.bootstrapped(Duration::from_secs(10)).await?;
    let terms = Terms { model_name: "example".into(), region: "here".into(), ..Terms::default() };
    let provider = Provider::start(node.clone(), shard, terms).await?;
    println!("{}", node.listen_addrs()[0]);

    tokio::signal::ctrl_c().await?;
    provider.shutdown().await;
    node.shutdown().await;
    Ok(())
}
