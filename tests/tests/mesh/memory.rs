//! What a provider takes of the machine's memory.

use futures::future::join_all;

use crate::{
    drive::{Driver, load, prompts},
    net::{Mesh, THIRDS},
    process::{memory, room},
};
use far_mesh_core::{hop::Rows, limits::MAX_CHUNK_TOKENS, session::DEFAULT_CHUNK_TOKENS};

const MIB: u64 = 1 << 20;

/// Program, libraries, activations, buffers: all that is neither weights nor cache.
const REST: u64 = 80 * MIB;

const TOKENS: usize = 512;

#[tokio::test]
async fn a_provider_of_ten_layers_stays_within_weights_cache_and_80_mib() {
    let wanted = THIRDS.map(|layers| {
        let shard = load(Some(layers), false);
        let info = shard.info();
        let cache = (TOKENS * info.arena_bytes / info.arena_tokens) as u64;
        (info.packed_bytes as u64, cache)
    });
    let mesh = Mesh::start().await;
    let providers = mesh.providers(&THIRDS).await;
    let inside = mesh.inside(3).await;
    let prompt: Vec<u32> = prompts()[5].iter().copied().cycle().take(TOKENS).collect();
    // As coordinators send it, then in the longest chunk there may be. The second session takes the first one's pages.
    for chunk in [DEFAULT_CHUNK_TOKENS, MAX_CHUNK_TOKENS] {
        let mut driver = Driver::open(&*inside.coordinator.route(TOKENS as u32, 1), TOKENS as u32).await;
        driver.tokens(&prompt, chunk, Rows::All).await;
        assert!(join_all(providers.iter().map(room)).await.iter().all(|room| room.sessions == 1));
        driver.close().await;
        for (part, (packed, cache)) in providers.iter().zip(wanted) {
            let peak = memory(part).peak;
            println!(
                "{}, chunks of {chunk}: peak {:.1} MiB, weights {:.1}, cache of {TOKENS} tokens {:.1}, rest {:.1}",
                part.name,
                peak as f64 / MIB as f64,
                packed as f64 / MIB as f64,
                cache as f64 / MIB as f64,
                (peak as i64 - (packed + cache) as i64) as f64 / MIB as f64,
            );
            assert!(peak < packed + cache + REST, "{} in chunks of {chunk}: {peak} bytes", part.name);
        }
    }
    inside.stop().await;
    mesh.stop(providers).await;
}
