//! Streams that begin over a relay and go on over a direct connection.

use super::fabric::{Mesh, generate_locally, tokens};
use crate::{
    hop::{HopSession, Rows},
    peer::ServeConfig,
};

const CHUNKS: [usize; 2] = [9, 7];
const DECODE: usize = 60;
const ALL: u64 = 76;

/// Runs a prompt and tokens; `between` is called before each step.
async fn run(session: &mut dyn HopSession, mut between: impl FnMut(usize)) -> Vec<Vec<u8>> {
    let (mut outputs, mut position) = (vec![], 0);
    for (seq, length) in CHUNKS.into_iter().chain([1; DECODE]).enumerate() {
        between(seq);
        let ids: Vec<u32> = (position..).take(length).map(|at| at * 31 + 5).collect();
        let rows = [Rows::Last, Rows::All, Rows::None][seq % 3];
        session.submit(tokens(seq as u64, position, &ids, rows)).await.unwrap();
        outputs.push(session.next().await.unwrap().output.map(|rows| rows.bytes().to_vec()).unwrap_or_default());
        position += length as u32;
    }
    outputs
}

#[tokio::test(start_paused = true)]
async fn every_stream_of_a_session_goes_over_and_no_bit_changes() {
    for (cuts, streams) in [(&[0, 1][..], 1), (&[0, 1, 2], 3), (&[0, 1, 2, 3], 5)] {
        let alone = generate_locally(cuts.len() as u32 - 1, 5, &CHUNKS, DECODE).await;
        // With the smaller bound no result is kept once it was sent, so nothing can be sent twice.
        for kept_bytes_per_session in [1 << 20, 100] {
            let mesh = Mesh::with(cuts, ServeConfig { kept_bytes_per_session, ..ServeConfig::default() }, |_, _| {});
            mesh.fabric.relay(true);
            let mut session = mesh.open().await;
            assert_eq!(mesh.fabric.opened(), streams);
            let outputs = run(session.as_mut(), |seq| match seq {
                20 => {
                    assert_eq!(mesh.fabric.opened(), streams, "as long as there is nothing better");
                    mesh.fabric.relay(false);
                }
                40 => {
                    assert_eq!(mesh.fabric.opened(), 2 * streams);
                    mesh.fabric.silence_the_first(streams);
                }
                _ => {}
            });
            assert!(outputs.await == alone, "{cuts:?}");
            let accounts = session.close().await.unwrap();
            assert!(accounts.iter().all(|account| (account.tokens, account.counted) == (ALL, ALL)), "{accounts:?}");
            mesh.all_free().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_may_end_while_its_streams_go_over() {
    for last in 0..12 {
        let mesh = Mesh::new(&[0, 1, 2, 3]);
        mesh.fabric.relay(true);
        let mut session = mesh.open().await;
        for at in 0..=last {
            if at == 1 {
                mesh.fabric.relay(false);
            }
            session.submit(tokens(at, at as u32, &[1], Rows::Last)).await.unwrap();
            session.next().await.unwrap();
        }
        let accounts = session.close().await.unwrap();
        assert!(accounts.iter().all(|account| account.tokens == last + 1), "{last}: {accounts:?}");
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_direct_stream_can_be_opened_the_relayed_one_is_kept() {
    let mesh = Mesh::new(&[0, 1, 2]);
    mesh.fabric.relay(true);
    let mut session = mesh.open().await;
    let outputs = run(session.as_mut(), |seq| {
        if seq == 20 {
            mesh.fabric.relay(false);
            // From here on nobody can be reached anew.
            mesh.hops.iter().for_each(|hop| drop(mesh.fabric.listen(hop.node)));
        }
    });
    assert!(outputs.await == generate_locally(2, 5, &CHUNKS, DECODE).await);
    drop(session);
    mesh.all_free().await;
}
