//! A provider or a client that goes away in the middle of a generation.

use std::time::{Duration, Instant};

use far_mesh_client::{
    Client, Error, EventStream,
    schema::{Event, GenerateRequest},
};
use far_mesh_node::local::Part;
use futures::{StreamExt, future::join_all};

use crate::{
    net::{Mesh, PATIENCE, THIRDS},
    process::{Room, room, signal, until, until_room, within},
};

/// How long a client waits at most until it hears that nobody takes a lost node's place: the node's deadline, and a few
/// looks at a mesh in which one is dead.
const REPAIR: Duration = Duration::from_secs(8);

/// A generation that is still running whenever a test disturbs it.
fn long() -> GenerateRequest {
    GenerateRequest::text("Once upon a time").max_tokens(4000).temperature(0.0)
}

fn short() -> GenerateRequest {
    GenerateRequest::text("Once upon a time").max_tokens(4).temperature(0.0)
}

/// Takes `count` tokens of a stream.
async fn tokens(stream: &mut EventStream, count: usize) {
    for _ in 0..count {
        match within(PATIENCE, "a token", stream.next()).await {
            Some(Ok(Event::Token(_))) => {}
            other => panic!("{other:?} where a token was due"),
        }
    }
}

/// Reads a stream to its error, past tokens that were on their way.
async fn failure(stream: &mut EventStream) -> Error {
    loop {
        match stream.next().await {
            Some(Ok(Event::Token(_))) => {}
            Some(Err(error)) => return error,
            other => panic!("{other:?} where an error was due"),
        }
    }
}

async fn rooms(providers: &[Part]) -> Vec<Room> {
    join_all(providers.iter().map(room)).await
}

/// Reads the stream's failure and holds it against the provider that was lost.
async fn assert_blamed(stream: &mut EventStream, lost: &Part, layers: &str, limit: Duration) {
    let started = Instant::now();
    let error = within(limit, "the client hears of it", failure(stream)).await;
    let Error::Generation(detail) = &error else { panic!("{error:?}") };
    assert!(detail.message.contains(&lost.ready.peer_id) && detail.message.contains(layers), "{}", detail.message);
    assert_eq!(detail.code.as_deref(), Some("node_lost"));
    println!("{} was missed after {:?}: {}", lost.name, started.elapsed(), detail.message);
}

/// A request that needs layers nobody serves.
async fn assert_uncovered(client: &Client, layers: &str) {
    let refused = within(PATIENCE, "a refusal", client.generate_whole(&short())).await;
    let Err(Error::Refused { status: 503, detail, retry_after }) = refused else { panic!("{refused:?}") };
    assert!(detail.message.contains(layers), "{}", detail.message);
    assert!(retry_after.is_some());
}

async fn until_served(client: &Client, limit: Duration) -> String {
    let served = until(limit, "requests are served again", async || {
        client.generate_whole(&short()).await.map_err(|error| error.to_string())
    });
    served.await.text
}

#[tokio::test]
async fn a_killed_provider_ends_its_sessions_with_its_name_and_another_takes_its_place() {
    let mesh = Mesh::start().await;
    let mut providers = mesh.providers(&THIRDS).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let text = client.generate_whole(&short()).await.unwrap().text;
    let before = rooms(&providers).await;
    let mut stream = client.generate(&long()).await.unwrap();
    tokens(&mut stream, 5).await;
    assert!(rooms(&providers).await.iter().all(|room| room.sessions == 1), "the session is not on its route");

    signal(&providers[1], "KILL");
    assert_blamed(&mut stream, &providers[1], "10..20", REPAIR).await;
    assert!(stream.next().await.is_none(), "nothing follows an error");
    let rest = [(&providers[0], before[0]), (&providers[2], before[2])];
    until_room(Duration::from_secs(2), "the others are free again", rest).await;
    assert_uncovered(&client, "10..20").await;

    providers[1] = mesh.provider("10..20").await;
    assert_eq!(until_served(&client, Duration::from_secs(5)).await, text, "the same words through the new node");
    mesh.stop(providers.into_iter().chain([coordinator])).await;
}

#[tokio::test]
async fn a_provider_that_falls_silent_is_lost_by_its_deadline() {
    let mesh = Mesh::start().await;
    let providers = mesh.providers(&THIRDS).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let before = rooms(&providers).await;
    let mut stream = client.generate(&long()).await.unwrap();
    tokens(&mut stream, 5).await;

    signal(&providers[1], "STOP");
    assert_blamed(&mut stream, &providers[1], "10..20", REPAIR).await;
    let rest = [(&providers[0], before[0]), (&providers[2], before[2])];
    until_room(Duration::from_secs(2), "the others are free again", rest).await;
    assert_uncovered(&client, "10..20").await;

    signal(&providers[1], "CONT");
    until_room(Duration::from_secs(2), "it is free when it goes on", [(&providers[1], before[1])]).await;
    let awake = Instant::now();
    until_served(&client, Duration::from_secs(5)).await;
    println!("in routes again {:?} after it went on", awake.elapsed());
    mesh.stop(providers.into_iter().chain([coordinator])).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_the_session_on_every_hop() {
    let mesh = Mesh::start().await;
    let providers = mesh.providers(&THIRDS).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let before = rooms(&providers).await;
    for (name, after) in [("before its first token", 0), ("in the middle", 5)] {
        let mut stream = client.generate(&long()).await.unwrap();
        tokens(&mut stream, after).await;
        until(PATIENCE, "the session is on its route", async || {
            let rooms = rooms(&providers).await;
            if rooms.iter().all(|room| room.sessions == 1) { Ok(()) } else { Err(format!("{rooms:?}")) }
        })
        .await;
        drop(stream);
        let all = providers.iter().zip(before.iter().copied());
        let taken = until_room(Duration::from_secs(2), "every hop is free again", all).await;
        println!("a client that hung up {name} was noticed after {taken:?}");
    }
    mesh.stop(providers.into_iter().chain([coordinator])).await;
}
