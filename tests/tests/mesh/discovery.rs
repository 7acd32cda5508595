//! Who is found, and who is not any more.

use std::time::{Duration, Instant};

use far_mesh_client::schema::{Event, GenerateRequest};
use futures::StreamExt;

use crate::{
    net::{Mesh, PATIENCE, THIRDS, client},
    process::{get, signal, until, within},
};

fn request(max_tokens: u32) -> GenerateRequest {
    GenerateRequest::text("Once upon a time").max_tokens(max_tokens).temperature(0.0)
}

#[tokio::test]
async fn a_provider_that_is_interrupted_finishes_its_steps_withdraws_and_exits_with_0() {
    let mesh = Mesh::start().await;
    let mut providers = mesh.providers(&THIRDS).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let model = client.models().await.unwrap().models.remove(0).id;
    let leaver = providers.remove(1);
    let id = leaver.ready.peer_id.clone();
    let mut stream = client.generate(&request(40)).await.unwrap();
    within(PATIENCE, "a token", stream.next()).await.unwrap().unwrap();

    let interrupted = Instant::now();
    signal(&leaver, "INT");
    let withdrawn = until(Duration::from_secs(3), "it is listed no more", async || {
        let nodes = client.nodes(&model).await.map_err(|error| error.to_string())?.nodes;
        if nodes.iter().all(|node| node.node_id != id) { Ok(nodes.len()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
    assert_eq!(withdrawn, 2, "the others are still listed");
    println!("withdrawn after {:?}", interrupted.elapsed());
    let rest: Vec<_> = within(PATIENCE, "the stream's end", stream.collect::<Vec<_>>()).await;
    let Some(Ok(Event::Done(done))) = rest.last() else { panic!("{:?}", rest.last()) };
    assert_eq!(done.usage.completion_tokens, 40, "the session it had goes on to its end");
    // Its drain is 5 s, its farewell to the mesh about one more.
    let status = leaver.stop(Duration::from_secs(8)).await.expect("it ends by itself");
    assert!(status.success(), "{status}");
    println!("ended after {:?}", interrupted.elapsed());
    mesh.stop(providers.into_iter().chain([coordinator])).await;
}

#[tokio::test]
async fn a_coordinator_that_came_first_is_ready_once_providers_join() {
    let mesh = Mesh::start().await;
    let coordinator = mesh.coordinator().await;
    let (status, health) = get(&coordinator, "/health").await;
    let detail = health["mesh"]["detail"].as_str().unwrap();
    assert!(status == 503 && detail.contains("layers 0..30"), "{status} {health}");

    let mut providers = mesh.providers(&THIRDS[..2]).await;
    until(Duration::from_secs(5), "two thirds are known", async || {
        let (status, health) = get(&coordinator, "/health").await;
        let detail = health["mesh"]["detail"].as_str().unwrap_or_default();
        if status == 503 && detail.contains("layers 20..30") { Ok(()) } else { Err(format!("{status} {health}")) }
    })
    .await;
    providers.push(mesh.provider(THIRDS[2]).await);
    let joined = Instant::now();
    until(Duration::from_secs(5), "all layers are known", async || {
        let (status, health) = get(&coordinator, "/health").await;
        if status == 200 { Ok(()) } else { Err(format!("{status} {health}")) }
    })
    .await;
    println!("healthy {:?} after the last provider joined", joined.elapsed());
    let answer = client(&coordinator).generate_whole(&request(4)).await.unwrap();
    assert_eq!((answer.usage.completion_tokens, answer.contributions.len()), (4, 3));
    mesh.stop(providers.into_iter().chain([coordinator])).await;
}

#[tokio::test]
async fn spans_that_overlap_make_a_route_that_runs_every_layer_once() {
    let mesh = Mesh::start().await;
    let providers = mesh.providers(&["0..20", "10..30"]).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let answer = client.generate_whole(&request(8)).await.unwrap();
    let layers: Vec<[u32; 2]> = answer.contributions.iter().map(|contribution| contribution.layers).collect();
    assert!(matches!(layers[..], [[0, end], [start, 29]] if start == end + 1), "{layers:?}");

    let third = mesh.providers(&THIRDS).await;
    let model = &client.models().await.unwrap().models[0].id;
    until(Duration::from_secs(5), "all five are known", async || {
        let nodes = client.nodes(model).await.map_err(|error| error.to_string())?.nodes;
        if nodes.len() == 5 { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
    let through_more = client.generate_whole(&request(8)).await.unwrap();
    assert_eq!(through_more.text, answer.text);
    mesh.stop(providers.into_iter().chain(third).chain([coordinator])).await;
}
