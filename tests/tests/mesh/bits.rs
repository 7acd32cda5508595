//! A mesh of processes computes what one process computes, bit for bit.

use std::sync::Arc;

use far_mesh_core::hop::{Head, Hop};
use futures::future::join_all;

use crate::{
    drive::{generate, load, prompts},
    net::{Mesh, THIRDS},
};

const STEPS: usize = 16;
const CHUNKS: [usize; 4] = [64, 7, 1, 16];

/// Sessions that differ: prompts of 4 to 73 tokens in chunks of 1 to 64.
fn sessions() -> impl Iterator<Item = (&'static [u32], usize)> {
    prompts().iter().cycle().zip(CHUNKS.into_iter().cycle()).take(8).map(|(ids, chunk)| (ids.as_slice(), chunk))
}

/// What one process computes for each of the sessions, one after the other, each prompt whole.
async fn alone() -> Vec<Vec<u32>> {
    let shard = load(Some("0..30"), true);
    let (hop, head): (Arc<dyn Hop>, Arc<dyn Head>) = (shard.hop().unwrap(), shard.head().unwrap());
    let mut all = vec![];
    for (ids, _) in sessions() {
        all.push(generate(&*hop, &*head, ids, 512, STEPS).await);
    }
    shard.shutdown().await;
    all
}

#[tokio::test]
async fn logits_through_one_to_five_providers_have_the_bits_of_one_process() {
    let alone = alone().await;
    let cuts: [&[&str]; 4] =
        [&["0..30"], &["0..13", "13..30"], &THIRDS, &["0..1", "1..8", "8..15", "15..29", "29..30"]];
    for layers in cuts {
        let mesh = Mesh::start().await;
        let providers = mesh.providers(layers).await;
        let inside = mesh.inside(layers.len()).await;
        let head = inside.coordinator.head().unwrap();
        for (at, (ids, chunk)) in sessions().enumerate().take(3) {
            let route = inside.coordinator.route(ids.len() as u32, STEPS as u32);
            let got = generate(&*route, &*head, ids, chunk, STEPS).await;
            assert!(got == alone[at], "session {at} through {layers:?}");
        }
        inside.stop().await;
        mesh.stop(providers).await;
    }
}

#[tokio::test]
async fn eight_sessions_at_once_through_three_providers_have_the_bits_of_each_alone() {
    let alone = alone().await;
    let mesh = Mesh::start().await;
    let providers = mesh.providers(&THIRDS).await;
    let inside = mesh.inside(3).await;
    let head = inside.coordinator.head().unwrap();
    let together = sessions().map(|(ids, chunk)| {
        let (route, head) = (inside.coordinator.route(ids.len() as u32, STEPS as u32), &head);
        async move { generate(&*route, &**head, ids, chunk, STEPS).await }
    });
    for (at, got) in join_all(together).await.into_iter().enumerate() {
        assert!(got == alone[at], "session {at} among seven others");
    }
    inside.stop().await;
    mesh.stop(providers).await;
}
