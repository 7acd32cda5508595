//! Bytes that are no frames.

use std::time::{Duration, Instant};

use far_mesh_core::{
    hop::{Input, Rows, Step},
    peer::wire::{Attach, Fault, Frame, HEADER_BYTES, Open},
};
use futures::{AsyncReadExt, AsyncWriteExt, future::join_all};

use super::{GREETING, Targets, fault, good_open, mib};
use crate::process::{memory, within};

/// A header of zeros but for these.
fn header(length: u32, version: u8, kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    (bytes[4], bytes[5]) = (version, kind);
    bytes
}

const VERSION: u8 = 1;
const ACTIVATION: u8 = 2;
const OPEN: u8 = 6;
const OPENED: u8 = 7;
const ATTACH: u8 = 8;

#[tokio::test]
async fn garbage_and_wrong_lengths_and_versions_are_refused() {
    let targets = Targets::start().await;
    // An xorshift: the same garbage each time.
    let mut state = 0x9e37_79b9_u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    })
    .take(1 << 20)
    .collect();
    for at in 0..16 {
        targets.send_raw(targets.first(), &garbage[at * 65_536..][..65_536]).await;
    }
    targets.send_raw(targets.first(), b"GET / HTTP/1.1\r\nhost: provider\r\n\r\n and some more bytes").await;
    targets.unharmed("garbage").await;

    let huge = targets.send_raw(targets.first(), &header(u32::MAX, VERSION, OPEN)).await;
    let Fault::Refused(reason) = fault(&huge) else { panic!("{huge:?}") };
    assert!(reason.contains("4294967295") && reason.contains("16416"), "{reason}");
    let other = targets.send_raw(targets.first(), &header(36, 9, OPEN)).await;
    let Fault::Refused(reason) = fault(&other) else { panic!("{other:?}") };
    assert!(reason.contains("version 9") && reason.contains("speaks 1"), "{reason}");
    let step = targets.send_raw(targets.first(), &header(32, VERSION, 4)).await;
    let Fault::Refused(reason) = fault(&step) else { panic!("{step:?}") };
    assert!(reason.contains("Probe") && reason.contains("Open, Attach or Resume"), "{reason}");
    targets.unharmed("headers out of bounds").await;
    targets.stop().await;
}

#[tokio::test]
async fn streams_that_say_half_a_word_are_closed_by_the_greeting_deadline() {
    let targets = Targets::start().await;
    let mut body_missing = header(16_000, VERSION, OPEN);
    body_missing.extend([0; 100]);
    let words = [vec![], vec![0; 3], header(36, VERSION, OPEN)[..HEADER_BYTES - 1].to_vec(), body_missing];
    let silent = words.iter().map(|word| async {
        let mut stream = targets.stream(targets.first()).await;
        stream.write_all(word).await.unwrap();
        stream.flush().await.unwrap();
        let started = Instant::now();
        let mut answer = vec![];
        let _ = within(GREETING, "it is closed", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{answer:?}");
        println!("{} bytes and silence: closed after {:?}", word.len(), started.elapsed());
    });
    join_all(silent).await;
    targets.unharmed("half words").await;
    targets.stop().await;
}

#[tokio::test]
async fn frames_larger_than_the_session_are_refused_before_they_are_read() {
    const STREAMS: usize = 40;
    let targets = Targets::start().await;
    let before = memory(targets.second()).resident;
    // The largest there can be: 512 rows of 16384 values, nearly all of which are sent.
    let mut announced = header((512 * 16_384 * 4 + HEADER_BYTES - 4) as u32, VERSION, ACTIVATION);
    announced[28..32].copy_from_slice(&512_u32.to_le_bytes());
    announced[32..36].copy_from_slice(&16_384_u32.to_le_bytes());
    let rows = vec![0; 8 << 20];
    let mut streams = vec![];
    for at in 0..STREAMS {
        let open = good_open("10..20");
        announced[8..16].copy_from_slice(&open.session.0[..8]);
        // Sent by hand: a link would send whole frames only.
        let mut stream = targets.stream(targets.second()).await;
        // In a session, or on a stream that waits for its session.
        if at % 2 == 0 {
            stream.write_all(&greeting(&open)).await.unwrap();
            let mut opened = [0; HEADER_BYTES];
            within(GREETING, "it opens", stream.read_exact(&mut opened)).await.unwrap();
            assert_eq!(opened[5], OPENED);
        } else {
            let body = postcard::to_stdvec(&Attach { session: open.session }).unwrap();
            stream.write_all(&frame(ATTACH, &open, &body)).await.unwrap();
        }
        // Once it was refused, nobody takes the rest.
        let _ = stream.write_all(&announced).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&rows)).await;
        streams.push(stream);
    }
    let during = memory(targets.second()).resident;
    println!("{STREAMS} frames of 32 MiB: {:.1} MiB, had {:.1}", mib(during), mib(before));
    assert!(during < before + super::KEPT, "{during} bytes, had {before}");
    let mut answer = vec![];
    let _ = within(GREETING, "it is closed", streams[0].read_to_end(&mut answer)).await;
    let Fault::BadStep(reason) = fault(&answer) else { panic!("{answer:?}") };
    assert!(reason.contains("33554464") && reason.contains("147488"), "{reason}");
    targets.serve_honestly(&targets.honest, "beside large frames").await;
    drop(streams);
    targets.unharmed("large frames").await;
    targets.stop().await;
}

#[tokio::test]
async fn a_frame_of_another_session_ends_the_session() {
    let targets = Targets::start().await;
    let open = good_open("0..10");
    let mut stream = targets.stream(targets.first()).await;
    stream.write_all(&greeting(&open)).await.unwrap();
    let mut opened = [0; HEADER_BYTES];
    within(GREETING, "it opens", stream.read_exact(&mut opened)).await.unwrap();
    let mut step = header(36, VERSION, 1);
    step[28] = 1;
    step.extend(5_u32.to_le_bytes());
    stream.write_all(&step).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![];
    let _ = within(GREETING, "it is closed", stream.read_to_end(&mut answer)).await;
    let Fault::BadStep(reason) = fault(&answer) else { panic!("{answer:?}") };
    assert!(reason.contains("frame of session 0000000000000000"), "{reason}");

    // A stream cut off within a frame.
    let mut link = targets.opened(targets.first(), &good_open("0..10")).await;
    let step = Step { seq: 0, position: 0, input: Input::Tokens(vec![1; 8]), output: Rows::Last };
    link.queue(Frame::Step(step)).unwrap();
    drop(link);
    targets.unharmed("mixed up frames").await;
    targets.stop().await;
}

/// An `Open` as bytes.
fn greeting(open: &Open) -> Vec<u8> {
    frame(OPEN, open, &postcard::to_stdvec(open).unwrap())
}

/// A control frame of the session that `open` asks for.
fn frame(kind: u8, open: &Open, body: &[u8]) -> Vec<u8> {
    let mut bytes = header((body.len() + HEADER_BYTES - 4) as u32, VERSION, kind);
    bytes[8..16].copy_from_slice(&open.session.0[..8]);
    bytes.extend(body);
    bytes
}
