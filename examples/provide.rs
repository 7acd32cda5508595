//! A provider embedded in a program: `provide MODEL.gguf A..B [BOOTSTRAP]` serves these layers until ctrl-C.

use std::{env, error::Error, time::Duration};

use far_mesh_core::{model, peer, provider, shard};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [file, layers] = [1, 2].map(|at| env::args().nth(at).ok_or("usage: provide MODEL A..B [BOOTSTRAP]"));
    let (file, layers) = (file?, layers?);
    let hash = model::model_hash(file.as_ref(), &env::temp_dir(), &mut |_, _| ())?;
    let config = shard::Config {
        model: file.into(),
        hash,
        span: Some(layers.parse()?),
        head: false,
        device: shard::DeviceChoice::Cpu,
        precision: model::Precision::Packed,
        threads: 2,
        arena_tokens: 16_384,
        batching: shard::Batching::default(),
        isa: None,
    };
    let shard = tokio::task::spawn_blocking(move || shard::Shard::load(config, &mut |_, _| ())).await??;

    let mut mesh = peer::Config::new(peer::Keypair::generate_ed25519());
    mesh.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    mesh.bootstrap = env::args().skip(3).map(|addr| addr.parse()).collect::<Result<_, _>>()?;
    let node = peer::Node::spawn(mesh).await?;
    node.bootstrapped(Duration::from_secs(10)).await?;
    let terms = provider::Terms { model_name: "example".into(), region: "here".into(), ..Default::default() };
    let provider = provider::Provider::start(node.clone(), shard, terms).await?;
    println!("{}", node.listen_addrs()[0]);

    tokio::signal::ctrl_c().await?;
    provider.shutdown().await;
    node.shutdown().await;
    Ok(())
}
